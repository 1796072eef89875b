"""
Slices of the held-out queries: for which of them is a candidate better?

In:  NDCG@10 of both arms by query, what holds the queries out, and what live was trained on. Out: the gate's numbers
for each slice, for who looks closer; no verdict depends on them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from relevanced.daemon.gate import paired_interval
from relevanced.daemon.queries import cluster_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the cycle knew that trained live."""

    query_keys: Collection[str]  # of the log as of its snapshot: those held out then, and those of its triplets
    positive_ids: Collection[str]  # of its triplets


def kinds_of(
    qrels: Mapping[str, Mapping[str, float]], held_out_by: Mapping[str, str], known: Known | None
) -> list[dict[str, str]]:
    """
    Part the queries in each way that can be told; each way names the slice of every query of the qrels.

    Novel queries are of clusters that were first typed after the snapshot which live was trained on, however early a
    record that came late says it was; novel documents, relevant ones of which none was a positive of live's triplets.

    Args:
        held_out_by: query -> holdout.HeldOutBy.
        known: None where live is the base model, to which everything is novel, or nobody knows any more.
    """
    kinds = []
    if any(held_out_by[query] != "hash" for query in qrels):
        kinds.append(
            {query: "earlier_queries" if held_out_by[query] == "hash" else "recent_queries" for query in qrels}
        )
    if known is not None:
        clusters = {cluster_key(key) for key in known.query_keys}
        positives = set(known.positive_ids)
        kinds.append({query: "seen_queries" if cluster_key(query) in clusters else "novel_queries" for query in qrels})
        kinds.append(
            {
                query: "novel_documents" if positives.isdisjoint(relevant) else "known_documents"
                for query, relevant in qrels.items()
            }
        )
    return kinds


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
        kinds: query -> name of its slice, of all these queries, for each way to part them.
    Returns: name -> queries, share (of the weight of all), difference with low and high, ndcg@10, live_ndcg@10. The
        means of a kind, each times its share, add up to those of the whole.
    """
    whole = sum(weights[query] for query in live_ndcg)
    measured = {}
    for kind in kinds:
        for name in sorted({kind[query] for query in live_ndcg}):
            queries = sorted(query for query in live_ndcg if kind[query] == name)
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
