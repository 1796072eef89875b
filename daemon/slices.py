"""
Slices of the held-out queries: for which of them is a candidate better, and whom does it harm?

In:  NDCG@10 of both arms by query, and what is known of the queries. Out: the gate's numbers for each slice, and its
objections for those that are harmed.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from relevanced.daemon.gate import GatePolicy, Objection, change
from relevanced.daemon.queries import cluster_key
from relevanced.daemon.resampling import FEWEST, simultaneous_intervals

MOST_VALUES: Final = 10  # of an attribute that are slices of their own
SLICED: Final = ("ndcg@10", "recall@100", "mrr@10")  # measures; slices are harmed by the first
SURE: Final = 0.95  # that all intervals are right, together


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
    candidate: Mapping[str, Mapping[str, float]],
    live: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, float],
    kinds: Collection[Mapping[str, str]],
) -> dict[str, dict[str, Any]]:
    """
    Measure each slice; of one measure their intervals hold all together, for of many slices one loses by luck.

    Args:
        candidate, live: name of a measure, SLICED at least -> query -> value.
        weights: query -> how much it counts, as for gate.compare.
        kinds: query -> name of its slice, of some of these queries, for each way to part them.
    Returns: name -> queries, share (of the kind's weight), difference of NDCG@10 with low and high, ndcg@10,
        live_ndcg@10, and by name of each other measure its difference with low and high. The means of a kind, each
        times its share, add up to that of its queries.
    """
    queries = sorted({query for kind in kinds for query in kind})
    parts = [(kind, name) for kind in kinds for name in sorted(set(kind.values()))]
    if not parts:
        return {}
    counts = np.array([weights[query] for query in queries])
    members = np.array([[kind.get(query) == name for kind, name in parts] for query in queries])
    mine, lives = (np.array([[arm[name][query] for name in SLICED] for query in queries]) for arm in (candidate, live))
    found = simultaneous_intervals(mine - lives, counts, members, SURE)
    measured = {}
    for place, (kind, name) in enumerate(parts):
        inside = members[:, place]
        whole = counts[[query in kind for query in queries]].sum()
        first, *others = (found.of(place, column) for column in range(len(SLICED)))
        measured[name] = {
            "queries": int(inside.sum()),
            "share": float(counts[inside].sum() / whole),
            **first,
            "ndcg@10": float(np.average(mine[inside, 0], weights=counts[inside])),
            "live_ndcg@10": float(np.average(lives[inside, 0], weights=counts[inside])),
            **dict(zip(SLICED[1:], others, strict=True)),
        }
    return measured


def harmed(measured: Mapping[str, Mapping[str, Any]], policy: GatePolicy) -> list[Objection]:
    """
    Object to each slice whose loss is more than is borne and no luck: a mean may hide whom it costs.

    Of a few queries NDCG@10 often falls alike, by a rank each, which looks like certainty, so fewer than FEWEST prove
    nothing.

    Args:
        measured: as slices_of gives it.
    """
    return [
        Objection(f"slice {name}", proven=True, sentence=_harm(name, one))
        for name, one in measured.items()
        if one["queries"] >= FEWEST and one["difference"] < -policy.max_slice_loss and one["high"] < 0
    ]


def _harm(name: str, one: Mapping[str, Any]) -> str:
    return f"{change(one['difference'], one['low'], one['high'])} on the {one['queries']:,} of {name}"
