"""
An adapter as a version: trained beside the candidate, on the vectors that there are.

In:  a cycle's triplets, the live version with its index. Out: a complete version that searches the same index; or none,
where nothing was learned that holds for other queries.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.parquet as pq

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.adapted import plain
from relevanced.daemon.cost import CPU
from relevanced.daemon.cycle import cycle_of
from relevanced.daemon.errors import FailStep
from relevanced.daemon.mining import text_keys_of
from relevanced.daemon.ports import Encoder, Progress, Vectors
from relevanced.daemon.queries import cluster_key
from relevanced.daemon.records import Cycle, Outcome, Version
from relevanced.daemon.stages import Stages

if TYPE_CHECKING:
    from relevanced.daemon.adapter import Examples

_COLUMNS: Final = ["query_key", "anchor", "positive_id", "negative_ids", "weight"]


def train_adapter_version(
    stages: Stages, cycle: Cycle, triplets_by_source: Mapping[str, int], progress: Progress
) -> Outcome:
    """
    Teach the live version an adapter on a cycle's triplets, and complete a version of it.

    Where live has an adapter already, the new one begins with the identity all the same, and shares the same index.

    Raises: FailStep when no version is live, or its files are not as they were.
    """
    from relevanced.daemon.adapter import train_adapter  # here, since light commands shall not wait for torch

    live_id = stages.promotion.serving().live_version_id
    if live_id is None:
        raise FailStep("An adapter needs a live version; `relevanced status` shows what is live.")
    live, began = history.version(stages.database, live_id), time.monotonic()
    progress("Training an adapter", 0, 1)
    examples = _examples(stages, cycle, live)
    try:
        adapter = train_adapter(examples, stages.adapter)
    except ValueError as error:
        return Outcome(f"No adapter was trained: {error}")
    progress("Training an adapter", 1, 1)
    triplets, noted = len(examples.anchors), cycle_of(stages.database, cycle.cycle_id).adapter_version_id
    numbers = {
        "triplets": triplets,
        "epochs": adapter.epochs,
        "loss": adapter.loss,
        "plain_loss": adapter.plain_loss,
        "seconds": round(time.monotonic() - began, 3),
    }
    if not adapter.learned and noted is None:
        return Outcome("No adapter was kept: what it learned does not hold for other queries.", numbers)
    version_id = noted or _take_number(stages, cycle, live_id)
    directory = stages.models.adopt_adapter(live.directory, adapter.matrix, version_id)
    manifest = {
        "base": live.index_id,
        "parent": live_id,
        "snapshot_id": cycle.snapshot_id,
        "cycle_id": cycle.cycle_id,
        "triplets": triplets_by_source,
        "adapter": numbers,
        "cost": {"training": {CPU: numbers["seconds"]}},
    }
    stages.models.write_manifest(directory, manifest)
    encoder = stages.models.open(directory)
    history.complete_version(
        stages.database, version_id, directory, encoder.fingerprint, encoder.dimension, manifest, live.index_id
    )
    sentence = (
        f"Trained version {version_id}, a query-side adapter on the index of version {live.index_id}, on {triplets:,}"
        f" triplets in {numbers['seconds']:.0f} s."
    )
    return Outcome(sentence, {"version": version_id, **numbers})


def examples_of(
    triplets: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    documents: Vectors,
    text_keys: Mapping[str, str],
    encoder: Encoder,
    check_share: float,
) -> "Examples":
    """
    Give triplets over vectors; documents of one text are one, and what has no vector is left out.

    Args:
        triplets: rows of TRIPLETS.
        names: document of each row of documents, float32 (n, d).
        text_keys: document -> key of its text, equal for equal texts.
        encoder: of the queries, without an adapter.
        check_share: of the queries, which only check; near-duplicates are on one side.
    """
    from relevanced.daemon.adapter import Examples

    places, firsts = dict[str, int](), dict[str, int]()
    for place, name in enumerate(names):
        places[name] = firsts.setdefault(text_keys.get(name, name), place)
    rows = [row for row in triplets if row["positive_id"] in places]
    known: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        known[row["query_key"]].add(places[row["positive_id"]])
    anchors = {text: place for place, text in enumerate(dict.fromkeys(row["anchor"] for row in rows))}
    checks = {key: _checks(cluster_key(key), check_share) for key in known}
    return Examples(
        queries=encoder.encode_queries(list(anchors)),
        documents=documents,
        anchors=np.array([anchors[row["anchor"]] for row in rows], dtype=np.int64),
        positives=np.array([places[row["positive_id"]] for row in rows], dtype=np.int64),
        negatives=[[places[name] for name in row["negative_ids"] if name in places] for row in rows],
        known=[frozenset(known[row["query_key"]]) for row in rows],
        weights=np.array([row["weight"] for row in rows], dtype=np.float32),
        checks=np.array([checks[row["query_key"]] for row in rows], dtype=np.bool_),
    )


def _examples(stages: Stages, cycle: Cycle, live: Version) -> "Examples":
    """Give a cycle's triplets over the vectors of live's index, and over those that its model has of the queries."""
    rows = pq.read_table(stages.files(cycle) / "triplets.parquet", columns=_COLUMNS).to_pylist()
    wanted = {name for row in rows for name in (row["positive_id"], *row["negative_ids"])}
    names, documents = stages.index.vectors(live.version_id, sorted(wanted))
    encoder = plain(stages.models.open(live.directory))
    return examples_of(rows, names, documents, text_keys_of(stages, names), encoder, stages.adapter.check_share)


def _checks(cluster_key: str, share: float) -> bool:
    """Draw whether a cluster of training queries only checks: the same in every cycle, and no part of the holdout."""
    digest = hashlib.blake2b(cluster_key.encode(), digest_size=8, person=b"adapter").digest()
    return int.from_bytes(digest) < share * 2**64


def _take_number(stages: Stages, cycle: Cycle, live_id: int) -> int:
    """The adapter's number: taken and noted in one transaction, so that no attempt leaves an orphan."""
    with stages.database.connection() as connection:
        version_id = history.register_version(connection, live_id)
        connection.execute(sql.postgres["note_adapter"], {"cycle_id": cycle.cycle_id, "version_id": version_id})
    return version_id
