"""
Fusion: one ranking out of several.

In:  runs. Out: a run; measured by assessing.
"""

from collections.abc import Sequence
from typing import Final

from relevanced.daemon.metrics import Run, best_first

_K: Final = 60  # as published: what is first in one ranking alone stands behind what is third in both


def fuse(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """
    Fuse by reciprocal rank: each run gives each document 1 / (60 + its rank), and the sums rank.

    Source: Cormack, Clarke and Buettcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning
        methods, SIGIR 2009.
    """
    fused: dict[str, dict[str, float]] = {}
    for run in runs:
        for query, scores in run.items():
            sums = fused.setdefault(query, {})
            for rank, name in enumerate(best_first(scores), start=1):
                sums[name] = sums.get(name, 0.0) + 1 / (_K + rank)
    return fused
