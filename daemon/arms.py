"""
The two arms of a comparison: versions, or models that are none.

In:  a version's number, or a directory with a model. Out: an Arm, and its run of the judged queries.
A version's vectors are those of its table; of any other model the documents are encoded for this comparison alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon import history
from relevanced.daemon.base_models import says_how_it_pools
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.documents import document_ids, document_texts
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exact_runs import Run, exact_run, pool_of, rank_exactly
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import Encoder, Progress, Vectors
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.stages import Stages

_AT_ONCE: Final = 256  # documents encoded between two signs of progress; enough that sorted by length they pad little


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One side of a comparison; it has a version, or an encoder of its own."""

    name: str  # within a sentence: "version 3", "model e5-small"
    fingerprint: str
    version_id: int | None = None
    encoder: Encoder | None = None


def arms_of(stages: Stages, first: str, second: str, policy: ModelPolicy) -> tuple[Arm, Arm]:
    """
    Find out what the two are.

    Args:
        first, second: a version's number each, or a directory with a model in sentence-transformers' layout.
        policy: says how the model of a directory reads texts, as if it were the base model.
    Raises: BadInput for an unknown version, a directory that holds no usable model, and twice the same.
    """
    if first == second:
        raise BadInput(f"Both are {first}; name two that differ.")
    for given in (first, second):  # both of them before a model is loaded, which may take long
        _require_there(stages, given)
    one, other = (_arm_of(stages, given, policy) for given in (first, second))
    if one.fingerprint == other.fingerprint:
        raise BadInput(f"{first} and {second} are the same model; name two that differ.")
    if one.name == other.name:
        return replace(one, name=f"model {first}"), replace(other, name=f"model {second}")
    return one, other


def runs_of(stages: Stages, arms: tuple[Arm, Arm], judged: JudgedQueries, progress: Progress) -> tuple[Run, Run]:
    """
    Rank the documents for each judged query by either arm, exactly, over the same documents.

    Raises: BadInput when there are no documents, or a model's vectors are broken.
    """
    everything = document_ids(stages.database)
    if not everything:
        raise BadInput("There are no documents to rank; `relevanced documents load FILE` brings some.")
    pool = pool_of(stages, judged.documents)
    queries = {query: judged.texts[query] for query in judged.qrels}
    first, second = (_run_of(stages, arm, queries, pool, everything, progress) for arm in arms)
    return first, second


def taught_remarks(stages: Stages, arms: tuple[Arm, Arm], judged: JudgedQueries) -> list[str]:
    """Say how many of the queries each version has had in its training, in the same words or nearly; none: nothing."""
    clusters = [cluster_key(query_key(judged.texts[query])) for query in judged.qrels]
    remarks = []
    for arm in arms:
        known = _taught(stages, arm)
        count = sum(cluster in known for cluster in clusters)
        if count:
            share = f"{count:,} of the {len(clusters):,} queries"
            remarks.append(f"{share} were in the training of {arm.name}; on those it does better than on new ones.")
    return remarks


def _require_there(stages: Stages, given: str) -> None:
    if given.isdecimal():
        history.version(stages.database, int(given))
    elif not Path(given).expanduser().is_dir():
        raise BadInput(
            f"{given} is neither a version's number nor a directory with a model; `relevanced versions` lists versions."
        )


def _arm_of(stages: Stages, given: str, policy: ModelPolicy) -> Arm:
    if given.isdecimal():
        found = history.version(stages.database, int(given))
        return Arm(name=f"version {found.version_id}", fingerprint=found.fingerprint, version_id=found.version_id)
    directory = Path(given).expanduser()
    name = directory.resolve().name
    pooling = None if says_how_it_pools(directory) else policy.pooling  # which is meant for the base model
    encoder = stages.models.open_base(replace(policy, base=str(directory), pooling=pooling))
    for known in history.versions(stages.database):
        if known.fingerprint == encoder.fingerprint:  # its vectors are there
            label = f"version {known.version_id} ({name})"
            return Arm(name=label, fingerprint=known.fingerprint, version_id=known.version_id)
    return Arm(name=f"model {name}", fingerprint=encoder.fingerprint, encoder=encoder)


def _run_of(
    stages: Stages,
    arm: Arm,
    queries: Mapping[str, str],
    pool: Sequence[str] | None,
    everything: Sequence[str],
    progress: Progress,
) -> Run:
    if arm.encoder is None:
        assert arm.version_id is not None  # an arm has one or the other
        return exact_run(stages, arm.version_id, queries, pool, progress)
    names, vectors = encode_in_memory(stages, arm.name, arm.encoder, everything if pool is None else pool, progress)
    return rank_exactly(arm.encoder, queries, names, vectors)


def encode_in_memory(
    stages: Stages,
    name: str,
    encoder: Encoder,
    document_ids: Sequence[str],
    progress: Progress,
    contexts: Mapping[str, str] | None = None,
) -> tuple[list[str], Vectors]:
    """
    Encode documents and keep nothing of it.

    Args:
        name: of the model, within a sentence.
        contexts: document_id -> words that are put before its own.
    Returns: their document_ids, and float32 (n, dimension).
    Raises: BadInput when its vectors are broken.
    """
    names: list[str] = []
    parts: list[Vectors] = []
    for start in range(0, len(document_ids), _AT_ONCE):
        texts = document_texts(stages.database, document_ids[start : start + _AT_ONCE])
        if contexts:
            texts = {key: f"{contexts.get(key, '')} {text}".lstrip() for key, text in texts.items()}
        names += texts
        # A version's table holds halves of floats; both arms shall be rounded alike.
        parts.append(encoder.encode_documents(list(texts.values())).astype(np.float16).astype(np.float32))
        progress(f"Encoding documents for {name}", min(start + _AT_ONCE, len(document_ids)), len(document_ids))
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        raise BadInput(f"{name[0].upper()}{name[1:]} gives vectors that are no numbers; its files are broken.")
    return names, vectors


def _taught(stages: Stages, arm: Arm) -> set[str]:
    """The clusters of the queries that a version was trained on, as far as its cycle's files are there."""
    if arm.version_id is None:
        return set()
    cycle_id = history.version(stages.database, arm.version_id).manifest.get("cycle_id")
    try:
        triplets = pq.read_table(stages.directory / str(cycle_id) / "triplets.parquet", columns=["query_key"])
    except (OSError, pa.ArrowException):
        return set()
    return {cluster_key(key) for key in set(triplets["query_key"].to_pylist())}
