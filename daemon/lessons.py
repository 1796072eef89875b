"""
What an assessment asks and what it teaches: never the same query on both sides, nor nearly the same.

In:  labels in BEIR layout, or the files of the newest cycle. Out: JudgedQueries, and triplets as training reads them;
assessing measures by the one and teaches the other.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon.beir import read_qrels, read_queries
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.documents import document_ids
from relevanced.daemon.errors import BadInput
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.judged_queries import held_out_queries, labelled_queries, newest_holdout
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.stages import Stages
from relevanced.daemon.teaching import triplets_of

Lessons = tuple[JudgedQueries, pa.Table | None]  # None: there is nothing to teach, or it is not wanted

_TRAIN: Final = "qrels/train.tsv"
_HALF: Final = HoldoutPolicy(share=0.5)


def lessons_of_cycle(stages: Stages, *, teach: bool) -> Lessons:
    """
    Take what the newest cycle holds out, and what it has mined beside.

    Raises: BadInput where no cycle holds out a query with a relevant document, or its triplets cannot be read.
    """
    cycle_id, _ = newest_holdout(stages.directory)
    judged = held_out_queries(stages.directory, cycle_id, k=stages.privacy.k, max_weight=stages.gate.max_query_weight)
    file = stages.directory / str(cycle_id) / "triplets.parquet"
    if not teach or not file.exists():
        return judged, None
    try:
        return judged, pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{file} cannot be read ({error}); --no-curve does without it.") from error


def lessons_of_labels(stages: Stages, directory: Path, *, teach: bool, progress: Progress) -> Lessons:
    """
    Ask the test queries and teach the train queries; where there are none of these, half of the test queries is taught.

    Raises: BadInput where a file cannot be read, or no relevant document is loaded.
    """
    documents = set(document_ids(stages.database))
    judged = labelled_queries(directory, documents)
    if not teach:
        return judged, None
    texts = read_queries(directory)
    if any((directory / f"{_TRAIN}{ending}").is_file() for ending in ("", ".gz")):
        judged, taught = _apart(judged, read_qrels(directory, _TRAIN, texts), texts)
    else:
        judged, taught = _halves(judged)
    pairs = {
        (query_key(texts[query]), name)
        for query, row in taught.items()
        for name, score in row.items()
        if score > 0 and name in documents
    }
    if not pairs:
        return judged, None
    wanted = {key for key, _ in pairs}
    anchors = {key: text for text in texts.values() if (key := query_key(text)) in wanted}
    return judged, triplets_of(stages, pairs, anchors, progress)


def _apart(
    judged: JudgedQueries, train: Mapping[str, Mapping[str, float]], texts: Mapping[str, str]
) -> tuple[JudgedQueries, Mapping[str, Mapping[str, float]]]:
    """Leave out of the train queries what is nearly a test query: it would tell the model the answer."""
    asked = {_cluster(judged.texts[query]) for query in judged.qrels}
    taught = {query: row for query, row in train.items() if _cluster(texts[query]) not in asked}
    near = len(train) - len(taught)
    remark = f"{near:,} of the {len(train):,} train queries are not taught, since they are nearly those of the test."
    return (replace(judged, remarks=[*judged.remarks, remark]) if near else judged), taught


def _halves(judged: JudgedQueries) -> tuple[JudgedQueries, Mapping[str, Mapping[str, float]]]:
    """Part the queries by a hash, near-duplicates on one side; the same halves each time."""
    taught = {query: row for query, row in judged.qrels.items() if is_held_out(_cluster(judged.texts[query]), _HALF)}
    asked = {query: row for query, row in judged.qrels.items() if query not in taught}
    if not taught or not asked:
        return judged, {}
    remark = (
        f"There is no {_TRAIN}, so {len(taught):,} of the {len(judged.qrels):,} queries are taught and all figures are"
        " of the others; --no-curve asks them all."
    )
    return replace(judged, qrels=asked, remarks=[*judged.remarks, remark]), taught


def _cluster(text: str) -> str:
    return cluster_key(query_key(text))
