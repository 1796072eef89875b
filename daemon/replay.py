"""
What a candidate learns, and from which model it begins.

In:  cycles/<id>/triplets.parquet, the versions. Out: a Lesson, read by the step train: the base model and all history
or, as [training] says, the live version and what is new to it; with anchors mixed in, so that they are not unlearned.
An anchor is taken from the triplets, which hold no held-out query.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from relevanced.daemon import history
from relevanced.daemon.anchors import anchors_of, mixed
from relevanced.daemon.files import whole_file
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.objections import earlier_versions
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Cycle, Version
from relevanced.daemon.runs import run_of
from relevanced.daemon.stages import Stages

TAUGHT: Final = "taught.parquet"  # what training reads where it is not triplets.parquet, with the same columns
_MADE_OF: Final = b"relevanced.lesson"  # in its metadata

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """
    The version that learns, the file with what it is taught, how many triplets of it are replayed; `begins` says who
    learns, within a sentence.
    """

    start: Version
    triplets: Path
    begins: str
    new: int
    replayed: int


def lesson_of(stages: Stages, cycle: Cycle, progress: Progress) -> Lesson | None:
    """
    Decide what a cycle's candidate begins with and is taught; an attempt that is begun again is taught the same.

    Returns: None where so little is new to live that the gate could not see it.
    """
    policy, file = stages.training, stages.files(cycle) / "triplets.parquet"
    start, begins, known = _start(stages)
    if not policy.replay_share and not known:
        new = pq.ParquetFile(file).metadata.num_rows
        return Lesson(start=start, triplets=file, begins=begins, new=new, replayed=0)
    rows = pq.read_table(file)
    pairs = list(zip(rows["query_key"].to_pylist(), rows["positive_id"].to_pylist(), strict=True))
    new = [place for place, pair in enumerate(pairs) if pair not in known]
    if known and len(new) < stages.min_triplets:
        return None
    taught, made_of = file.with_name(TAUGHT), _made_of(stages, start)
    if not _is_made_of(taught, made_of):
        old = [place for place, pair in enumerate(pairs) if pair in known] if known else new
        anchors = _anchors(stages, rows, old, progress) if policy.replay_share and old else []
        lesson = rows.take(mixed(new, anchors, policy.replay_share, policy.seed))
        with whole_file(taught) as partial:
            pq.write_table(lesson.replace_schema_metadata({_MADE_OF: made_of}), partial)
    replayed = pq.ParquetFile(taught).metadata.num_rows - len(new)
    return Lesson(start=start, triplets=taught, begins=begins, new=len(new), replayed=replayed)


def _start(stages: Stages) -> tuple[Version, str, set[tuple[str, str]]]:
    """The version that learns, how it is called, and the pairs of query_key and positive_id that it has learned."""
    base = history.base_version(stages.database)
    live_id = stages.promotion.serving().live_version_id
    if stages.training.start == "base" or live_id in (None, base.version_id):
        return base, f"base version {base.version_id}", set()
    assert live_id is not None
    live = history.version(stages.database, live_id)
    if live.index_version_id:  # an adapter, whose matrix is no part of what is trained
        live = history.version(stages.database, live.index_version_id)
    file = stages.directory / str(live.manifest.get("cycle_id")) / "triplets.parquet"
    try:
        learned = pq.read_table(file, columns=["query_key", "positive_id"])
    except (OSError, pa.ArrowException):
        log.warning("What live was taught is not known, so it is taught all history.", version=live.version_id)
        return live, f"live version {live.version_id}", set()
    pairs = zip(learned["query_key"].to_pylist(), learned["positive_id"].to_pylist(), strict=True)
    return live, f"live version {live.version_id}", set(pairs)


def _anchors(stages: Stages, rows: pa.Table, old: Sequence[int], progress: Progress) -> list[int]:
    """Those of these places whose query the base, live and the versions that were live before answer well."""
    base = history.base_version(stages.database).version_id
    live = stages.promotion.serving().live_version_id or base
    keys, texts, positives = (rows[name].to_pylist() for name in ("query_key", "anchor", "positive_id"))
    qrels: dict[str, dict[str, float]] = {}
    for place in old:
        qrels.setdefault(keys[place], {})[positives[place]] = 1.0
    asked = {keys[place]: texts[place] for place in old}
    answers = [
        ndcg_at_10(qrels, _scores(run_of(stages, number, asked, progress)))
        for number in dict.fromkeys([base, live, *earlier_versions(stages, live)])
    ]
    anchors = anchors_of(answers, stages.gate.anchor_ndcg)
    return [place for place in old if keys[place] in anchors]


def _scores(run: pa.Table) -> Mapping[str, Mapping[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    for row in run.to_pylist():
        scores.setdefault(row["query_key"], {})[row["document_id"]] = row["score"]
    return scores


def _made_of(stages: Stages, start: Version) -> bytes:
    """What a lesson follows from; else a second attempt would rank anew, and the index follows the documents."""
    policy = stages.training
    made_of: dict[str, Any] = {"start": start.version_id, "share": policy.replay_share, "seed": policy.seed}
    return json.dumps({**made_of, "least": stages.gate.anchor_ndcg}).encode()


def _is_made_of(file: Path, made_of: bytes) -> bool:
    try:
        return (pq.read_schema(file).metadata or {}).get(_MADE_OF) == made_of
    except (OSError, pa.ArrowException):
        return False
