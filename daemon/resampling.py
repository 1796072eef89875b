"""
Many means at once: what holds of all slices together.

In:  differences by query and measure, how much each query counts, and which slices it belongs to. Out: a mean for each
slice and measure, with intervals that hold together; read by slices, and by tuning, which compares many recipes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES: Final = 10_000
FEWEST: Final = 10  # queries of a slice that takes part in the maximum; of fewer the bootstrap knows too little
_NONE: Final = 1e-6  # an error that is only the rounding of equal values
_BLOCK: Final = 500_000  # draws at a time, which stay near the processor

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Mean and both ends, each (slices, measures)."""

    mean: Floats
    low: Floats
    high: Floats

    def of(self, place: int, measure: int) -> dict[str, float]:
        """The difference of one slice and measure with its interval; none of two values in [0, 1] lies outside ±1."""
        ends = np.clip([self.low[place, measure], self.high[place, measure]], -1, 1)
        return {"difference": float(self.mean[place, measure]), "low": float(ends[0]), "high": float(ends[1])}


def simultaneous_intervals(
    values: Floats, weights: Floats, members: Bools, confidence: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> Intervals:
    """
    Give intervals that of one measure all hold together, however much the slices overlap.

    By the bootstrap of the largest studentised deviation: as wide as it takes, where Bonferroni's correction takes the
    slices for independent. A small slice's is wider by as much as Student's t is than the normal curve.

    Args:
        values: (queries, measures). weights: (queries,), above 0. members: (queries, slices), none of them empty.
        confidence: that all are right.
    Source: Romano and Wolf, Econometrica 2005; Chernozhukov, Chetverikov and Kato, Annals of Statistics 2013.
    """
    counted = weights[:, None] * members
    totals = counted.sum(axis=0)
    mean = counted.T @ values / totals[:, None]
    sizes = members.sum(axis=0)
    error = (
        np.sqrt(
            np.stack(
                [
                    ((counted * (one[:, None] - centre)) ** 2).sum(axis=0)
                    for one, centre in zip(values.T, mean.T, strict=True)
                ],
                axis=1,
            )
            * (sizes / np.maximum(sizes - 1, 1))[:, None]
        )
        / totals[:, None]
    )
    error[sizes == 1] = np.inf
    among = sizes >= FEWEST
    largest = np.full(values.shape[1], stats.norm.ppf((1 + confidence) / 2))
    if among.any():
        drawn = resampled_means(values, weights, members[:, among], resamples=resamples, seed=seed)
        strays = np.zeros(drawn.shape)
        np.divide(np.abs(drawn - mean[among]), error[among], out=strays, where=error[among] > _NONE)
        largest = np.maximum(largest, np.quantile(strays.max(axis=1), confidence, axis=0))
    width = stats.t.isf(stats.norm.sf(largest)[None, :], np.maximum(sizes - 1, 1)[:, None])
    half = width * error
    return Intervals(mean, mean - half, mean + half)


def lower_ends(
    values: Floats, confidence: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> npt.NDArray[np.float64]:
    """
    Give what many means of the same queries reach at least, all together: the best of them may be picked by it.

    The bootstrap of the largest studentised deviation, one-sided; where the measures are alike, it is hardly wider than
    that of one.

    Args:
        values: (queries, measures), 2 queries at least.
        confidence: that all are right.
    Returns: (measures,)
    """
    queries = len(values)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(queries)
    drawn = resampled_means(values, np.ones(queries), np.ones((queries, 1), np.bool_), resamples=resamples, seed=seed)
    strays = np.zeros((resamples, values.shape[1]))
    np.divide(drawn[:, 0] - mean, error, out=strays, where=error > _NONE)
    largest = max(float(np.quantile(strays.max(axis=1), confidence)), float(stats.norm.ppf(confidence)))
    width = float(stats.t.isf(stats.norm.sf(largest), queries - 1))  # as in simultaneous_intervals
    ends: npt.NDArray[np.float64] = mean - width * error
    return ends


def resampled_means(
    values: Floats, weights: Floats, members: Bools, *, resamples: int = RESAMPLES, seed: int = 0
) -> npt.NDArray[np.float32]:
    """
    Draw the queries anew, with replacement, and give the weighted means of each draw.

    How often each query was drawn is a row of counts, and the sums of all slices and measures are one matrix product.
    A seed gives the draws that scipy.stats.bootstrap makes with it.

    Args: as for simultaneous_intervals.
    Returns: (resamples, slices, measures); the mean of all where a slice was not drawn at all.
    """
    queries, slices = members.shape
    counted = weights[:, None] * members
    centre = np.average(
        values, axis=0, weights=weights
    )  # the sums of deviations are small, and exact enough in float32
    deviations = counted[:, :, None] * (values - centre)[:, None, :]
    columns = np.concatenate([deviations.reshape(queries, -1), counted], axis=1).astype(np.float32)
    means = np.empty((resamples, slices, values.shape[1]), dtype=np.float32)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(queries, 1))
    counts = np.empty((block, queries), dtype=np.float32)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        for row, drawn in zip(counts, rng.integers(0, queries, (rows, queries)), strict=False):
            row[:] = np.bincount(drawn, minlength=queries)
        sums = counts[:rows] @ columns
        totals = np.maximum(sums[:, -slices:], np.finfo(np.float32).tiny)
        means[start : start + rows] = sums[:, :-slices].reshape(rows, slices, -1) / totals[:, :, None] + centre
    return means
