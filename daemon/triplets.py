"""
Triplets from judgments.

In:  judgments of the training side (query, document, grade, weight, evidence) and the live version's run of each query.
Out: TRIPLETS (anchor, positive_id, negative_ids) with the source of each; read by training.

What training may rely on: one triplet for each pair of query_key and positive_id, so all known positives of a query are
the positive_ids of its rows, and a document among them is never in the negative_ids of any of its rows. A batch may
still bring together rows whose positives answer one another's queries: training masks equal query_keys and equal
positive_ids there. negative_ids may be empty (negative_source in_batch): then the batch alone provides negatives.

A negative that is none teaches the opposite of what it should, and the hardest ones are the likeliest to be that. So
nothing is one that may well be relevant to a query of nearly the same words, or that has the text of a positive.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Interval

from relevanced.daemon.near_queries import near_queries

Judged = dict[str, dict[str, Any]]  # document_id -> its row of JUDGMENTS

_READ = ["query_key", "document_id", "grade", "weight", "expected_clicks", "source"]  # the evidence is large
# Why each negative is one: skipped or near_miss, with its rank and score in the run, if it is there.
NEGATIVE = pa.struct({"kind": pa.string(), "rank": pa.int32(), "score": pa.float64()})
SCHEMA = pa.schema(
    {
        "triplet_id": pa.string(),
        "query_key": pa.string(),
        "anchor": pa.string(),
        "positive_id": pa.string(),
        "negative_ids": pa.list_(pa.string()),
        "grade": pa.float64(),
        "weight": pa.float64(),
        "source": pa.string(),
        "negative_source": pa.string(),
        "positive_rank": pa.int32(),
        "positive_score": pa.float64(),
        "near_miss_bar": pa.float64(),
        "negative_evidence": pa.list_(NEGATIVE),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletPolicy:
    """What is sure enough to teach, as a positive and as a negative."""

    min_grade: Annotated[float, Interval(gt=0, le=1)] = 0.5  # P(relevant) of a positive: likelier relevant than not
    max_negative_grade: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # P(relevant) that a judged negative may have
    # Clicks that a relevant document would have drawn where this one drew fewer: at 2, silence has odds of e^-2.
    min_expected_clicks: Annotated[float, Ge(0)] = 2.0
    # A near miss scores below this share of the positive: NV-Retriever, arXiv:2407.15831 (TopK-PercPos).
    near_miss_margin: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    # Jaccard similarity of the stems of two queries whose negatives are kept from one another's documents: at .6 "skin
    # rash" and "skin rash child" are near, "skin rash" and "skin cancer" are not. 1: only those of equal stems.
    near_similarity: Annotated[float, Interval(gt=0, le=1)] = 0.6
    # Hard negatives of a triplet. Each is another text to encode, and those of the whole batch count for every anchor.
    negatives: Annotated[int, Ge(0)] = 2


def mine_triplets(
    judgments: pa.Table,
    run: pa.Table,
    anchors: Mapping[str, str],
    policy: TripletPolicy,
    text_keys: Mapping[str, str] | None = None,
) -> pa.Table:
    """
    Make one triplet of each pair that is likelier relevant than not, the query's surest first.

    Args:
        judgments: JUDGMENTS, of training queries alone; so no held-out query is anybody's near one.
        run: RUN of the live version, best first; its documents without a judgment may be near misses.
        anchors: query_key -> text of the query; a query without one is left out.
        text_keys: document_id -> key of its text, equal for equal texts; a document without one has none like it.
    Returns: TRIPLETS. weight: the grade times the weight of its judgment, in [0, 1]. positive_rank and positive_score:
        those of the run, or null. near_miss_bar: the score below which near misses lie. negative_evidence: NEGATIVE of
        each of the negative_ids.
    """
    judged_by_query: dict[str, Judged] = {}
    for row in judgments.select(_READ).to_pylist():
        judged_by_query.setdefault(row["query_key"], {})[row["document_id"]] = row
    scores_by_query: dict[str, dict[str, float]] = {}
    for row in run.select(["query_key", "document_id", "score"]).to_pylist():
        scores_by_query.setdefault(row["query_key"], {})[row["document_id"]] = row["score"]
    answer_near = _answers_of_near_queries(judged_by_query, policy)
    rows = [
        {"query_key": query_key, "anchor": anchors[query_key], **triplet}
        for query_key, judged in sorted(judged_by_query.items())
        if query_key in anchors
        for triplet in _of_query(
            query_key,
            judged,
            scores_by_query.get(query_key, {}),
            answer_near.get(query_key, set()),
            text_keys or {},
            policy,
        )
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def documents_beside_positives(judgments: pa.Table, run: pa.Table, policy: TripletPolicy) -> set[str]:
    """All documents whose text keys `mine_triplets` may ask for: those of the queries that have a positive."""
    positive = pc.greater_equal(judgments["grade"], policy.min_grade)
    queries = pc.unique(judgments.filter(positive)["query_key"])
    found: set[str] = set()
    for table in (judgments, run):
        theirs = table.filter(pc.is_in(table["query_key"], queries))
        found.update(pc.unique(theirs["document_id"]).to_pylist())
    return found


def _answers_of_near_queries(judged_by_query: Mapping[str, Judged], policy: TripletPolicy) -> dict[str, set[str]]:
    """For each query the documents that may be no negative of one that is near it."""
    answers = {
        query_key: {name for name, row in judged.items() if not _may_be_negative(row, policy)}
        for query_key, judged in judged_by_query.items()
    }
    return {
        query_key: set().union(*(answers[other] for other in others))
        for query_key, others in near_queries(judged_by_query, policy.near_similarity).items()
    }


def _of_query(
    query_key: str,
    judged: Judged,
    scores: Mapping[str, float],
    answer_near: Collection[str],
    text_keys: Mapping[str, str],
    policy: TripletPolicy,
) -> Iterator[dict[str, Any]]:
    positives = [row for row in judged.values() if row["grade"] >= policy.min_grade]
    known_texts = {text_keys[row["document_id"]] for row in positives if row["document_id"] in text_keys}
    twins = {name for name in {*judged, *scores} if text_keys.get(name) in known_texts}
    barred = {*answer_near, *twins}
    ranks = {name: rank for rank, name in enumerate(scores, start=1)}
    skipped = [name for name in _skipped(judged, scores, policy) if name not in barred]
    for row in sorted(positives, key=lambda row: (-row["grade"], row["document_id"])):
        positive_id = row["document_id"]
        misses = [
            name
            for name in _near_misses(positive_id, judged, scores, policy)
            if name not in skipped and name not in barred
        ]
        chosen = dict.fromkeys(skipped, "skipped") | dict.fromkeys(misses, "near_miss")
        negative_ids = list(chosen)[: policy.negatives]
        sources = sorted({chosen[name] for name in negative_ids})
        yield {
            "triplet_id": _triplet_id(query_key, positive_id, negative_ids),
            "positive_id": positive_id,
            "negative_ids": negative_ids,
            "grade": row["grade"],
            "weight": row["grade"] * row["weight"],
            "source": row["source"],
            "negative_source": "+".join(sources) or "in_batch",
            "positive_rank": ranks.get(positive_id),
            "positive_score": scores.get(positive_id),
            "near_miss_bar": _bar(scores[positive_id], policy) if positive_id in scores else None,
            "negative_evidence": [
                {"kind": chosen[name], "rank": ranks.get(name), "score": scores.get(name)} for name in negative_ids
            ],
        }


def _skipped(judged: Judged, scores: Mapping[str, float], policy: TripletPolicy) -> list[str]:
    """Documents that were examined often enough and not wanted, those first that live ranks highest."""
    names = [
        name
        for name, row in judged.items()
        if row["expected_clicks"] >= policy.min_expected_clicks and _may_be_negative(row, policy)
    ]
    return sorted(names, key=lambda name: (-scores.get(name, float("-inf")), name))


def _near_misses(positive_id: str, judged: Judged, scores: Mapping[str, float], policy: TripletPolicy) -> list[str]:
    """
    Documents that live ranks high though nothing speaks for them, hardest first.

    Where the positive is not in the run, every document of the run scores above it: none is below the margin, and each
    may be as relevant as the positive that live failed to see. So there are none.
    """
    if positive_id not in scores:
        return []
    bar = _bar(scores[positive_id], policy)
    return [
        name
        for name, other in sorted(scores.items(), key=lambda item: -item[1])
        if other < bar and (name not in judged or _may_be_negative(judged[name], policy))
    ]


def _bar(score: float, policy: TripletPolicy) -> float:
    """The score of the positive less the margin; as far below it where it is below 0, where a share lies above it."""
    return score - (1 - policy.near_miss_margin) * abs(score)


def _may_be_negative(row: Mapping[str, Any], policy: TripletPolicy) -> bool:
    return bool(row["grade"] <= policy.max_negative_grade and row["grade"] < policy.min_grade)


def _triplet_id(query_key: str, positive_id: str, negative_ids: list[str]) -> str:
    """Name a triplet by what it says, the same in every cycle that mines it."""
    said = json.dumps([query_key, positive_id, negative_ids], ensure_ascii=False)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
