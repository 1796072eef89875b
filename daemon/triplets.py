"""
Triplets from judgments.

In:  judgments of the training side (query, document, grade, weight, evidence) and the live version's run of each query.
Out: TRIPLETS (anchor, positive_id, negative_ids) with the source of each; read by training.

What training may rely on: one triplet for each pair of query_key and positive_id, so all known positives of a query are
the positive_ids of its rows, and a document among them is never in the negative_ids of any of its rows. A batch may
still bring together rows whose positives answer one another's queries: training masks equal query_keys and equal
positive_ids there. negative_ids may be empty (negative_source in_batch): then the batch alone provides negatives.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from annotated_types import Ge, Interval

Judged = dict[str, dict[str, Any]]  # document_id -> its row of JUDGMENTS

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
    # Hard negatives of a triplet. Each is another text to encode, and those of the whole batch count for every anchor.
    negatives: Annotated[int, Ge(0)] = 2


def mine_triplets(judgments: pa.Table, run: pa.Table, anchors: Mapping[str, str], policy: TripletPolicy) -> pa.Table:
    """
    Make one triplet of each pair that is likelier relevant than not, the query's surest first.

    Args:
        judgments: JUDGMENTS, of training queries alone.
        run: RUN of the live version, best first; its documents without a judgment may be near misses.
        anchors: query_key -> text of the query; a query without one is left out.
    Returns: TRIPLETS. weight: the grade times the weight of its judgment, in [0, 1].
    """
    judged_by_query: dict[str, Judged] = {}
    for row in judgments.to_pylist():
        judged_by_query.setdefault(row["query_key"], {})[row["document_id"]] = row
    scores_by_query: dict[str, dict[str, float]] = {}
    for row in run.select(["query_key", "document_id", "score"]).to_pylist():
        scores_by_query.setdefault(row["query_key"], {})[row["document_id"]] = row["score"]
    rows = [
        {"query_key": query_key, "anchor": anchors[query_key], **triplet}
        for query_key, judged in sorted(judged_by_query.items())
        if query_key in anchors
        for triplet in _of_query(query_key, judged, scores_by_query.get(query_key, {}), policy)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _of_query(
    query_key: str, judged: Judged, scores: Mapping[str, float], policy: TripletPolicy
) -> Iterator[dict[str, Any]]:
    positives = [row for row in judged.values() if row["grade"] >= policy.min_grade]
    skipped = _skipped(judged, scores, policy)
    for row in sorted(positives, key=lambda row: (-row["grade"], row["document_id"])):
        positive_id = row["document_id"]
        misses = [name for name in _near_misses(positive_id, judged, scores, policy) if name not in skipped]
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
    # Of a score below 0, a share would lie above it; as far below it as the share of a positive one is the same margin.
    score = scores[positive_id]
    bar = score - (1 - policy.near_miss_margin) * abs(score)
    return [
        name
        for name, other in sorted(scores.items(), key=lambda item: -item[1])
        if other < bar and (name not in judged or _may_be_negative(judged[name], policy))
    ]


def _may_be_negative(row: Mapping[str, Any], policy: TripletPolicy) -> bool:
    return bool(row["grade"] <= policy.max_negative_grade and row["grade"] < policy.min_grade)


def _triplet_id(query_key: str, positive_id: str, negative_ids: list[str]) -> str:
    """Name a triplet by what it says, the same in every cycle that mines it."""
    said = json.dumps([query_key, positive_id, negative_ids], ensure_ascii=False)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
