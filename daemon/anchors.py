"""
Anchors: queries that the base model and every version since answer well. What falls there, or on a general set, is
forgotten.

In:  NDCG@10 by query of a candidate and of those before it; which triplets are new. Out: the anchors, losses with their
intervals, objections; and which triplets are taught, some of anchors among them. Read by contest and replay.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from relevanced.daemon.gate import Difference, Objection, change
from relevanced.daemon.resampling import FEWEST, simultaneous_intervals

SURE: Final = 0.95  # of the interval of a loss, both ends


def anchors_of(answers: Collection[Mapping[str, float]], least: float) -> set[str]:
    """
    Choose the queries that every version answers well.

    Args:
        answers: of each version query -> NDCG@10; a query that one of them was not asked is none.
        least: NDCG@10 that is well.
    """
    if not answers:
        return set()
    asked = set.intersection(*(set(one) for one in answers))
    return {query for query in asked if all(one[query] >= least for one in answers)}


def differences(
    candidate: Mapping[str, float], others: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]
) -> dict[str, Difference]:
    """
    Give the mean difference of NDCG@10 from each of the others, with an interval by the bootstrap of the queries.

    Args:
        candidate, others: query -> NDCG@10, of the same queries, one at least. weights: query -> how much it counts.
    Raises: ValueError when they were not asked the same queries.
    """
    if any(other.keys() != candidate.keys() for other in others.values()):
        raise ValueError("The versions were measured on different queries, so they cannot be compared.")
    if not others:
        return {}
    queries = sorted(candidate)
    mine = np.array([candidate[query] for query in queries])
    values = np.stack([mine - [other[query] for query in queries] for other in others.values()], axis=1)
    counts = np.array([weights[query] for query in queries])
    found = simultaneous_intervals(values, counts, np.ones((len(queries), 1), dtype=np.bool_), SURE)
    return {name: Difference(**found.of(0, column)) for column, name in enumerate(others)}


def forgotten(
    reason: str, what: str, found: Mapping[str, Difference], queries: int, most: float | None
) -> list[Objection]:
    """
    Object to each loss that is more than is borne and no luck.

    Fewer than FEWEST queries prove nothing, as in slices.

    Args:
        reason, what: the name of the objection, and of the queries.
        found: against whom -> the difference.
        most: NDCG@10 that may be lost; None: any, and nothing is held against it.
    """
    if most is None or queries < FEWEST:
        return []
    return [
        Objection(
            reason,
            proven=True,
            sentence=f"on {queries:,} {what} {change(*one)} against {other}, where {most:g} is allowed",
        )
        for other, one in found.items()
        if one.difference < -most and one.high < 0
    ]


def remembered(anchors: Mapping[str, Any] | None, general: Mapping[str, Any] | None) -> str:
    """
    Say, after the gate's sentence, how far anchors fell, and what became of the general set; of few anchors nothing.

    Args:
        anchors: queries, and the difference from live with its ends. general: queries, and such differences `against`
            others.
    """
    said = ""
    if anchors and anchors["queries"] >= FEWEST and anchors["difference"] < 0:
        found = change(anchors["difference"], anchors["low"], anchors["high"])
        said += f" On {anchors['queries']:,} anchors, which all versions so far answer well, {found}."
    if general:
        found = " and ".join(
            f"{change(one['difference'], one['low'], one['high'])} against {other}"
            for other, one in general["against"].items()
        )
        said += f" On {general['queries']:,} queries of the general set {found}."
    return said


def mixed(new: Sequence[int], anchors: Sequence[int], share: float, seed: int) -> list[int]:
    """
    Mix triplets of anchors into what is taught: so many that they are a share of all, or all that there are.

    Args:
        new: places of the triplets that are taught anyway. anchors: places of those that may be added, again where they
            are among the new ones.
        share: in [0, 1). seed: of the draw.
    """
    wanted = round(len(new) * share / (1 - share))
    drawn = np.random.default_rng(seed).permutation(np.asarray(anchors, dtype=np.int64))[:wanted]
    return [*new, *sorted(drawn.tolist())]
