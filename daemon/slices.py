"""
Slices of the held-out queries: for which of them is a candidate better, and whom does it harm?

In:  NDCG@10 of both arms by query, and what is known of the queries. Out: the gate's numbers for each slice, and its
objections for those that are harmed.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from relevanced.daemon.gate import GatePolicy, Objection, change, paired_interval
from relevanced.daemon.queries import cluster_key

MOST_VALUES: Final = 10  # of an attribute that are slices of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the cycle knew that trained live."""

    query_keys: Collection[str]  # of the log as of its snapshot: those held out then, and those of its triplets
    positive_ids: Collection[str]  # of its triplets


def by_frequency(actors: Mapping[str, int]) -> dict[str, str]:
    """
    Part queries into head, torso and tail, a third each of what is typed: few queries, more, and most.

    Args:
        actors: query -> how many typed it.
    """
    whole, before = sum(actors.values()), 0
    kind = {}
    for query in sorted(actors, key=lambda query: (-actors[query], query)):
        kind[query] = ("head_queries", "torso_queries", "tail_queries")[min(3 * before // max(whole, 1), 2)]
        before += actors[query]
    return kind


def by_attribute(name: str, values: Mapping[str, str | None]) -> dict[str, str]:
    """
    Part queries by an attribute, such as the application where most people typed them.

    Args:
        values: query -> the attribute's value, or None. The rarer values beyond MOST_VALUES are one slice.
    """
    counts = Counter(value for value in values.values() if value)
    named = {value for value, _ in counts.most_common(MOST_VALUES)}
    return {
        query: f"{name} {value}" if value in named else f"{name} (others)" if value else f"{name} (none)"
        for query, value in values.items()
    }


def by_time(held_out_by: Mapping[str, str]) -> dict[str, str]:
    """
    Part queries into recent ones and the rest.

    Args:
        held_out_by: query -> holdout.HeldOutBy.
    """
    return {
        query: "recent_queries" if by in ("time", "both") else "earlier_queries" for query, by in held_out_by.items()
    }


def by_what_live_knew(qrels: Mapping[str, Mapping[str, float]], known: Known | None) -> list[dict[str, str]]:
    """
    Part queries into novel and seen ones, and into those that ask for novel documents and the rest.

    Novel queries are of clusters that were first typed after the snapshot which live was trained on, however early a
    record that came late says it was; novel documents, relevant ones of which none was a positive of live's triplets.

    Args:
        known: None where live is the base model, to which everything is novel, or nobody knows any more.
    """
    if known is None:
        return []
    clusters = {cluster_key(key) for key in known.query_keys}
    positives = set(known.positive_ids)
    return [
        {query: "seen_queries" if cluster_key(query) in clusters else "novel_queries" for query in qrels},
        {
            query: "novel_documents" if positives.isdisjoint(relevant) else "known_documents"
            for query, relevant in qrels.items()
        },
    ]


def slices_of(
    candidate_ndcg: Mapping[str, float],
    live_ndcg: Mapping[str, float],
    weights: Mapping[str, float],
    kinds: Collection[Mapping[str, str]],
    confidence: float,
) -> dict[str, dict[str, float]]:
    """
    Measure each slice as the gate measures the whole; a slice without a query is left out.

    Args:
        candidate_ndcg, live_ndcg, weights: query -> NDCG@10 and how much it counts, as for gate.compare.
        kinds: query -> name of its slice, of some of these queries, for each way to part them.
    Returns: name -> queries, share (of the kind's weight), difference with low and high, ndcg@10, live_ndcg@10. The
        means of a kind, each times its share, add up to that of its queries.
    """
    measured = {}
    for kind in kinds:
        whole = sum(weights[query] for query in kind)
        for name in sorted(set(kind.values())):
            queries = sorted(query for query in kind if kind[query] == name)
            mine, lives = ({query: arm[query] for query in queries} for arm in (candidate_ndcg, live_ndcg))
            counts = [weights[query] for query in queries]
            difference, low, high = paired_interval(mine, lives, weights, confidence)
            measured[name] = {
                "queries": len(queries),
                "share": sum(counts) / whole,
                "difference": difference,
                "low": low,
                "high": high,
                "ndcg@10": float(np.average(list(mine.values()), weights=counts)),
                "live_ndcg@10": float(np.average(list(lives.values()), weights=counts)),
            }
    return measured


def harmed(measured: Mapping[str, Mapping[str, float]], policy: GatePolicy) -> list[Objection]:
    """
    Object to each slice whose loss is more than is borne and no luck: a mean may hide whom it costs.

    Args:
        measured: as slices_of gives it.
    """
    return [
        Objection(f"slice {name}", proven=True, sentence=_harm(name, one))
        for name, one in measured.items()
        if one["difference"] < -policy.max_slice_loss and one["high"] < 0
    ]


def _harm(name: str, one: Mapping[str, float]) -> str:
    return f"{change(one['difference'], one['low'], one['high'])} on the {one['queries']:,} of {name}"
