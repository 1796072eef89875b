"""
The verdict of a trial: which of two versions do people prefer, when their answers are interleaved?

In:  PREFERENCES: by held-out query, how many actors clicked more of the other version's documents, and of live's.
Out: a comparison with its verdict, valid whenever it is looked at; read by tryout.

The offline gate knows only documents that somebody clicked, which are documents that live showed. What a candidate
would show in their place nobody could click, so its gain is hidden; here it is shown.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from annotated_types import Ge, Gt, Interval
from scipy.special import lambertw

TrialVerdict = Literal["better", "worse", "undecided"]

_TIGHT_AT: Final = 200.0  # preferences at which the interval is narrowest for its level; about where trials are decided


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPolicy:
    """When a version is tried on people, and when that has told enough."""

    # Share of the sessions whose held-out queries are answered by both versions. 0, no trials, because what people are
    # shown changes only when its owner asks for it; with 0.5 and a holdout of 0.2 a tenth of the answers are mixed.
    share: Annotated[float, Interval(ge=0, le=1)] = 0.0
    # Of the interval over preferences, both ends, at all looks together: no number of looks finds luck more often. It
    # rejects, and takes back; what may promote has its part of the gate's yearly_error.
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    # Queries and preferences before any verdict; the interval is asymptotic, and a single popular query is none.
    min_queries: Annotated[int, Ge(2)] = 20
    min_preferences: Annotated[int, Ge(2)] = 40
    # Of one query, those of the first actors. A version has to be better on queries, not on the most popular one, whose
    # thousandth preference says what its tenth did.
    max_per_query: Annotated[int, Ge(1)] = 10
    max_days: Annotated[float, Gt(0)] = 14.0  # then a trial ends undecided
    # After so many without a verdict a newer candidate takes its place, for it has learned from what this one showed.
    # Looked at less, the two would change places daily, and nothing would ever be decided.
    enough_preferences: Annotated[int, Ge(1)] = 100


@dataclass(frozen=True, slots=True)
class Preference:
    """
    What actors preferred.

    mean: (for other - for live) / all, in [-1, 1]; low, high: its interval, valid at any time.
    """

    verdict: TrialVerdict
    mean: float
    low: float
    high: float
    for_other: int
    for_live: int
    queries: int

    def numbers(self) -> dict[str, float]:
        """Give the figures for the row of the trial."""
        return {
            "preference": self.mean,
            "low": self.low,
            "high": self.high,
            "for_other": self.for_other,
            "for_live": self.for_live,
            "queries": self.queries,
        }

    def __str__(self) -> str:
        """Say what was found, as a part of a sentence."""
        return (
            f"{self.for_other:,} preferences for it and {self.for_live:,} for live on {self.queries:,} held-out queries"
            f" ({self.mean:+.2f}, {self.low:+.2f} to {self.high:+.2f})"
        )


def judge_trial(preferences: pa.Table, policy: TrialPolicy, level: float | None = None) -> Preference:
    """
    Judge what was preferred so far.

    The preferences of one query are no independent witnesses of how the versions do on others, so the variance is taken
    over queries. The interval is Robbins' mixture: it holds at all times at once (asymptotically), so a trial may be
    looked at after every click and ended at the first verdict, where a fixed interval would find luck in the end.

    Args:
        preferences: PREFERENCES: query_key, for_other, for_live; one row a query.
        level: how likely a version that nobody prefers is found better, ever; None: as the confidence says.
    Source: Howard, Ramdas, McAuliffe and Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021,
        equation 14; Waudby-Smith et al., Time-uniform central limit theory, arXiv:2103.06476, for estimated variance.
    """
    other, live = (preferences[name].to_numpy().astype(np.float64) for name in ("for_other", "for_live"))
    total, queries = float((other + live).sum()), int(np.count_nonzero(other + live))
    if not total:
        return Preference("undecided", 0.0, -1.0, 1.0, 0, 0, 0)
    mean = float((other - live).sum() / total)
    variance = _variance(other, live, mean)
    half = _boundary(variance, 1 - policy.confidence) / total
    low, high = max(mean - half, -1.0), min(mean + half, 1.0)
    asked = half if level is None else _boundary(variance, 2 * level) / total
    verdict: TrialVerdict = "undecided"
    if queries >= policy.min_queries and total >= policy.min_preferences:
        verdict = "better" if mean > asked else "worse" if high < 0 else "undecided"
    return Preference(verdict, mean, low, high, int(other.sum()), int(live.sum()), queries)


def _variance(other: npt.NDArray[np.float64], live: npt.NDArray[np.float64], mean: float) -> float:
    """
    Variance of the sum of preferences, each in {-1, 1}: that over queries, and never below one for each.

    Over queries it is an estimate from as many terms as there are queries, and of few it may come out far too small;
    the bound is what actors alone would give who prefer neither.
    """
    over_queries = float(((other - live - mean * (other + live)) ** 2).sum())
    return max(over_queries, float((other + live).sum()))


def _boundary(variance: float, level: float) -> float:
    """How far a sum of mean 0 and this variance strays, ever, but with probability `level`; both sides."""
    # Proposition 3 of Howard et al.: the mixture that is tightest at one variance, and valid at all.
    mixing = _TIGHT_AT / (-lambertw(-(level**2) / np.e, -1).real - 1)
    return float(np.sqrt((variance + mixing) * np.log((variance + mixing) / (mixing * level**2))))
