"""
What documents that nobody has judged may hide.

In:  judgments, and the runs of candidate and live. Out: how far their difference of NDCG@10 moves when unjudged
documents are taken for as relevant as judged ones at the same rank; part of the gate's report.

Counted for irrelevant, they speak against who brings up new documents; left out, for it. The truth lies between.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from relevanced.daemon.metrics import Run, first_ten

DRAWS: Final = 200  # of relevance; they vary far less than the queries do
_DEPTH: Final = 10
_DISCOUNTS: Final = 1 / np.log2(np.arange(2, _DEPTH + 2))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """
    Differences of the weighted mean NDCG@10, candidate minus live.

    if_none: no unjudged document is relevant. if_all: every one is. expected, low, high: their relevance is drawn; mean
    and central 95 % of the draws.
    """

    if_none: float
    if_all: float
    expected: float
    low: float
    high: float

    def numbers(self) -> dict[str, float]:
        """Give the figures for the report."""
        return asdict(self)


def unjudged_bounds(
    qrels: Mapping[str, Mapping[str, float]],
    judged: Mapping[str, Collection[str]],
    candidate: Run,
    live: Run,
    weights: Mapping[str, float],
    *,
    seed: int = 0,
) -> Unjudged:
    """
    Draw the relevance of each unjudged document among the first ten, alike in both arms, and measure again.

    A drawn document is relevant or not, with the mean grade that judged documents have at its rank; it is part of the
    ideal ranking too.

    Args:
        qrels: query -> document_id -> P(relevant), with one above 0 for each query; asked of both runs.
        judged: query -> documents that are judged, relevant or not; those of the qrels are, anyway.
        weights: query -> how much it counts.
    Source: Fröbe, Gienapp, Potthast and Hagen, Bootstrapped nDCG estimation in the presence of unjudged documents, ECIR
        2023.
    """
    queries = sorted(qrels)
    if not queries:
        return Unjudged(0.0, 0.0, 0.0, 0.0, 0.0)
    known = np.zeros((len(queries), 2))  # DCG of the judged documents
    at_rank = np.zeros((2, _DEPTH))  # sum of grades, and number, of judged documents
    # Of each unjudged document of a query: whose it is, its better rank, and its discount in either arm.
    owners: list[int] = []
    ranks: list[int] = []
    discounts_in: tuple[list[float], list[float]] = [], []
    for place, query in enumerate(queries):
        grades, known_of = qrels[query], judged.get(query, ())
        new: dict[str, int] = {}
        for arm, run in enumerate((candidate, live)):
            for rank, name in enumerate(first_ten(run.get(query, {}))):
                if name in grades or name in known_of:
                    grade = grades.get(name, 0.0)
                    known[place, arm] += grade * _DISCOUNTS[rank]
                    at_rank[:, rank] += grade, 1
                elif name in new:
                    ranks[new[name]] = min(ranks[new[name]], rank)
                    discounts_in[arm][new[name]] = _DISCOUNTS[rank]
                else:
                    new[name] = len(owners)
                    owners.append(place)
                    ranks.append(rank)
                    discounts_in[arm].append(_DISCOUNTS[rank])
                    discounts_in[1 - arm].append(0.0)
    weight = np.array([weights[query] for query in queries])
    ideal = _ideal([qrels[query] for query in queries])
    owner, discounts = np.array(owners, dtype=np.int64), np.array(discounts_in).T
    chance = (at_rank[0] / np.maximum(at_rank[1], 1))[ranks]

    def difference(relevant: npt.NDArray[np.bool_]) -> float:
        found = np.minimum(np.bincount(owner[relevant], minlength=len(queries)), _DEPTH)
        gained = [
            np.bincount(owner[relevant], weights=discounts[relevant, arm], minlength=len(queries)) for arm in (0, 1)
        ]
        ndcg = (known + np.stack(gained, axis=1)) / ideal[np.arange(len(queries)), found][:, None]
        return float(np.average(ndcg[:, 0] - ndcg[:, 1], weights=weight))

    rng = np.random.default_rng(seed)
    drawn = [difference(rng.random(len(owners)) < chance) for _ in range(DRAWS if owners else 1)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    none, every = (difference(np.full(len(owners), relevant)) for relevant in (False, True))
    return Unjudged(none, every, float(np.mean(drawn)), float(low), float(high))


def _ideal(qrels: Sequence[Mapping[str, float]]) -> Floats:
    """
    The ideal DCG of each query when so many documents more are relevant, which come before what is less sure.

    Returns: (queries, 11), for none to ten more.
    """
    best = np.zeros((len(qrels), _DEPTH))
    for row, grades in zip(best, qrels, strict=True):
        first = sorted(grades.values(), reverse=True)[:_DEPTH]
        row[: len(first)] = first
    more = range(_DEPTH + 1)
    return np.stack([_DISCOUNTS[:n].sum() + best[:, : _DEPTH - n] @ _DISCOUNTS[n:] for n in more], axis=1)
