"""
What a gate asks, the same of every version, and how a version answers.

In:  cycles/<id>/holdout.parquet, golden labels, the files of the cycle that trained live, the vectors of a version.
Out: queries with their judgments, weights and slices, and the measures of a version by query; read by contest and
objections.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from relevanced.daemon.documents import document_ids, document_texts
from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.exact_runs import Run, exact_run, pool_of
from relevanced.daemon.golden import golden
from relevanced.daemon.history import version
from relevanced.daemon.metrics import (
    LIKELY_RELEVANT,
    condensed,
    judged_at_10,
    judged_documents,
    measures_of,
    ndcg_at_10,
    qrels_from,
    query_weights,
)
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Cycle
from relevanced.daemon.reranking import RunReranker, open_reranker
from relevanced.daemon.slices import Known, by_attribute, by_frequency, by_time, by_what_live_knew
from relevanced.daemon.stages import Stages

log = structlog.get_logger(__name__)

_GOLDEN = "golden: "  # before the key of a query that may be held out as well
DECIDING = ("hash", "both")  # held out for ever, so that no version was ever trained on them


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Held-out queries that have a relevant document, by query_key."""

    texts: Mapping[str, str]
    unanswered: Mapping[str, str]  # the words of deciding queries that no relevant document is known of
    qrels: Mapping[str, Mapping[str, float]]  # document_id -> P(relevant)
    weights: Mapping[str, float]
    held_out_by: Mapping[str, str]
    judged: Mapping[str, set[str]]  # documents that clicks and skips made sure of, either way
    actors: Mapping[str, int]  # who typed it, of the unanswered too
    kinds: Sequence[Mapping[str, str]]  # the slice of each deciding query, for each way to part them
    recent: Mapping[str, str]  # the same of all queries, by when they were first typed
    golden_texts: Mapping[str, str]  # of the golden set, by query_key
    golden_qrels: Mapping[str, Mapping[str, float]]  # document_id -> grade in [0, 1]
    pool: Sequence[str] | None  # documents that are ranked; None: all

    def deciding(self, by_query: Mapping[str, Any]) -> dict[str, Any]:
        """Leave only the queries that the verdict is drawn on."""
        return {query: value for query, value in by_query.items() if self.held_out_by[query] in DECIDING}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """How one version answers them."""

    version_id: int
    run: Run
    unanswered: Run  # of those queries
    measures: Mapping[str, Mapping[str, float]]  # metrics.MEASURES -> query -> value, of all queries
    among_judged: Mapping[str, float]  # query -> NDCG@10 of the judged documents alone, of the deciding ones
    judged_at_10: float  # judged documents among the first ten, of the deciding ones
    golden_ndcg: Mapping[str, float]  # query -> NDCG@10, of the golden set
    reranked_ndcg: Mapping[str, float]  # query -> NDCG@10 behind the reranker, of the deciding ones; empty without one


def asked_of(stages: Stages, cycle: Cycle, live_id: int) -> Asked:
    """Read what a cycle holds out."""
    held_out = pq.read_table(stages.files(cycle) / "holdout.parquet")
    labels, there = golden(stages.database), set(document_ids(stages.database))
    qrels, judged = qrels_from(held_out), judged_documents(held_out)
    known = {row["query_key"]: row for row in _of_queries(held_out).to_pylist()}
    _fill(qrels, judged, {query: grades for query, grades in labels.granted.items() if query in known})
    qrels, golden_qrels = of_documents(qrels, there), of_documents(labels.qrels, there)
    by = held_out_by_of(held_out)
    held_out_by = {query: by[query] for query in qrels}
    actors = {query: row.get("actors", 1) for query, row in known.items()}
    deciding = {query: grades for query, grades in qrels.items() if held_out_by[query] in DECIDING}
    kinds = [
        by_frequency({query: actors[query] for query in deciding}),
        *by_what_live_knew(deciding, _known(stages, live_id)),
        *(by_attribute(name, {query: known[query].get(name) for query in deciding}) for name in stages.gate.slice_by),
    ]
    return Asked(
        texts={query: known[query]["user_query"] for query in qrels},
        unanswered={
            query: row["user_query"] for query, row in known.items() if query not in qrels and by[query] in DECIDING
        },
        qrels=qrels,
        # What experts have found, and no clicks, was found by being asked about.
        weights=dict.fromkeys(qrels, 1.0) | query_weights(held_out, stages.gate.max_query_weight),
        held_out_by=held_out_by,
        judged=judged,
        actors=actors,
        kinds=[kind for kind in kinds if len(set(kind.values())) > 1],
        recent=by_time(held_out_by),
        golden_texts={query: labels.texts[query] for query in golden_qrels},
        golden_qrels=golden_qrels,
        pool=pool_of(stages, there.intersection(chain(held_out["document_id"].to_pylist(), *golden_qrels.values()))),
    )


def of_documents(
    qrels: Mapping[str, Mapping[str, float]], document_ids: Collection[str]
) -> dict[str, dict[str, float]]:
    """Leave out what nobody can find, and queries that no relevant document is left of, which all answer alike."""
    left = {
        query: {name: grade for name, grade in grades.items() if name in document_ids}
        for query, grades in qrels.items()
    }
    return {query: grades for query, grades in left.items() if any(grade > 0 for grade in grades.values())}


def _fill(
    qrels: dict[str, dict[str, float]], judged: dict[str, set[str]], granted: Mapping[str, Mapping[str, float]]
) -> None:
    """Let what a gate wished to know speak of documents that clicks say nothing of; of those it says nothing."""
    for query, told in granted.items():
        grades = qrels.setdefault(query, {})
        for name, grade in told.items():
            if name not in judged.setdefault(query, set()):
                judged[query].add(name)
                if grade >= LIKELY_RELEVANT:
                    grades[name] = grade
                else:
                    grades.pop(name, None)


def reranking_of(stages: Stages) -> RunReranker | None:
    """
    The team's reranker, for all versions of one gate; None where there is none.

    Raises: BadInput when it cannot be opened.
    """
    policy = stages.reranker
    if not policy.model:
        return None
    return RunReranker(open_reranker(policy), partial(document_texts, stages.database), policy.depth)


def answers_of(
    stages: Stages, asked: Asked, version_id: int, reranking: RunReranker | None, progress: Progress
) -> Answers:
    """
    Rank the documents for every query, exactly, and measure the ranks.

    Raises: FailStep when the version's files are not as they were, or the reranker does not answer.
    """
    return _answers(asked, version_id, _ranked(stages, asked, version_id, progress), reranking, progress)


def answers_of_whole(
    stages: Stages, asked: Asked, version_ids: Sequence[int], reranking: RunReranker | None, progress: Progress
) -> list[Answers]:
    """As answers_of, of those versions whose files are whole: what is broken is no measure, and stops no other."""
    answers = []
    for number in version_ids:
        try:
            ranked = _ranked(stages, asked, number, progress)
        except FailStep as error:
            log.warning("A version cannot be opened, so it is not asked.", version=number, error=str(error))
        else:
            answers.append(_answers(asked, number, ranked, reranking, progress))
    return answers


def _ranked(stages: Stages, asked: Asked, version_id: int, progress: Progress) -> Run:
    golden_texts = {_GOLDEN + query: text for query, text in asked.golden_texts.items()}
    texts = {**asked.texts, **asked.unanswered, **golden_texts}
    return exact_run(stages, version_id, texts, asked.pool, progress)


def _answers(asked: Asked, version_id: int, whole: Run, reranking: RunReranker | None, progress: Progress) -> Answers:
    run, unanswered = ({query: whole[query] for query in some} for some in (asked.texts, asked.unanswered))
    golden_run = {query: whole[_GOLDEN + query] for query in asked.golden_texts}
    try:
        reranked = reranking.rerank(asked.deciding(asked.texts), run, progress) if reranking else {}
    except Retry as error:  # it has been asked again and again; the daemon must not wait, or end, for a reranker
        raise FailStep(str(error)) from error
    return measured(asked, version_id, run, unanswered, golden_run, reranked)


def measured(asked: Asked, version_id: int, run: Run, unanswered: Run, golden_run: Run, reranked: Run) -> Answers:
    """Measure a run of the held-out queries, one of the golden set, and what the reranker made of the first."""
    deciding = asked.deciding(run)
    return Answers(
        version_id=version_id,
        run=run,
        unanswered=unanswered,
        measures=measures_of(asked.qrels, run),
        among_judged=ndcg_at_10(asked.deciding(asked.qrels), condensed(deciding, asked.judged)),
        judged_at_10=judged_at_10(deciding, asked.judged),
        golden_ndcg=ndcg_at_10(asked.golden_qrels, golden_run),
        reranked_ndcg=ndcg_at_10({query: asked.qrels[query] for query in reranked}, reranked),
    )


def held_out_by_of(held_out: pa.Table) -> dict[str, str]:
    """What holds each query out; a file that was mined before there was another way says nothing of it."""
    keys = held_out["query_key"].to_pylist()
    if "held_out_by" not in held_out.column_names:
        return dict.fromkeys(keys, "hash")
    return dict(zip(keys, held_out["held_out_by"].to_pylist(), strict=True))


def _of_queries(held_out: pa.Table) -> pa.Table:
    """The columns that are alike in all rows of a query; a file that was mined before there was one lacks it."""
    wanted = ("query_key", "user_query", "actors", "application", "device")
    return held_out.select([name for name in wanted if name in held_out.column_names])


def _known(stages: Stages, live_id: int) -> Known | None:
    """What the cycle that trained live has left; a lost or broken file costs the slices and not the verdict."""
    cycle_id = version(stages.database, live_id).manifest.get("cycle_id")
    files = stages.directory / str(cycle_id)
    try:
        held_out = pq.read_table(files / "holdout.parquet", columns=["query_key"])
        triplets = pq.read_table(files / "triplets.parquet", columns=["query_key", "positive_id"])
    except (OSError, pa.ArrowException):
        return None
    query_keys = {*held_out["query_key"].to_pylist(), *triplets["query_key"].to_pylist()}
    return Known(query_keys=query_keys, positive_ids=set(triplets["positive_id"].to_pylist()))
