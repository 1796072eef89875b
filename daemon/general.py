"""
The general set: queries of another kind than people's here, by which one sees what fine-tuning unlearns.

In:  [gate] general, a directory in BEIR layout with documents of its own, and the models of versions. Out: NDCG@10 by
query of each version, read by contest. A version's does not change, so it is measured once and kept in general.json.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from relevanced.daemon.beir import file_of, read_qrels, read_queries
from relevanced.daemon.documents import document_text
from relevanced.daemon.exact_runs import pool_within, rank_exactly
from relevanced.daemon.files import write_text
from relevanced.daemon.history import version
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.ports import Encoder, Progress
from relevanced.daemon.stages import Stages

KEPT: Final = "general.json"  # beside the cycles' directories
_AT_ONCE: Final = 256  # documents encoded between two signs of progress


@dataclass(frozen=True, slots=True)
class GeneralSet:
    """Documents (document_id -> text), test queries (id -> text) and their qrels; `digest` is of all of it."""

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]
    digest: str


def general_set(stages: Stages) -> GeneralSet | None:
    """
    Read the general set that the operator names, cut to [schedule] gate_documents; None where there is none.

    Raises: BadInput, one sentence with file and line, for whatever cannot be used.
    """
    if not stages.gate.general:
        return None
    directory = Path(stages.gate.general).expanduser()
    corpus = stages.read_corpus(file_of(directory, "corpus.jsonl"))
    texts = {one.document_id: document_text(one.title, one.text) for one in corpus}
    queries = read_queries(directory)
    qrels = read_qrels(directory, "qrels/test.tsv", queries, texts)
    judged = {name for row in qrels.values() for name in row}
    documents = {name: texts[name] for name in pool_within(list(texts), judged, stages.gate_documents)}
    asked = {query: queries[query] for query in qrels}
    grades = {query: {name: float(score) for name, score in row.items() if score > 0} for query, row in qrels.items()}
    digest = hashlib.blake2b(json.dumps([documents, asked, grades]).encode(), digest_size=16).hexdigest()
    return GeneralSet(documents, asked, grades, digest)


def general_ndcg(stages: Stages, version_ids: Iterable[int], progress: Progress) -> dict[int, dict[str, float]]:
    """
    Measure versions on the general set: version -> query -> NDCG@10; empty where there is no set.

    Raises: BadInput for a set that cannot be used, FailStep when a version's files are not as they were.
    """
    asked = general_set(stages)
    if asked is None:
        return {}
    file = stages.directory / KEPT
    known = _known(file, asked.digest)
    found: dict[str, dict[str, float]] = {}
    measured: dict[int, dict[str, float]] = {}
    for number in dict.fromkeys(version_ids):
        of = version(stages.database, number)
        if of.fingerprint not in found:
            found[of.fingerprint] = known.get(of.fingerprint) or _measure(
                asked, stages.models.open(of.directory), number, progress
            )
        measured[number] = found[of.fingerprint]
    stages.directory.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"digest": asked.digest, "ndcg@10": found}))  # of no other: most never come again
    return measured


def _known(file: Path, digest: str) -> dict[str, dict[str, float]]:
    """What was measured before on the same set, by fingerprint; a broken file costs its measuring anew."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(kept["ndcg@10"]) if kept.get("digest") == digest else {}


def _measure(asked: GeneralSet, encoder: Encoder, number: int, progress: Progress) -> dict[str, float]:
    names, parts = list(asked.documents), []
    for start in range(0, len(names), _AT_ONCE):
        parts.append(encoder.encode_documents([asked.documents[name] for name in names[start : start + _AT_ONCE]]))
        progress(f"Encoding the general set by version {number}", min(start + _AT_ONCE, len(names)), len(names))
    run = rank_exactly(encoder, asked.queries, names, np.concatenate(parts))
    return ndcg_at_10(asked.qrels, run)
