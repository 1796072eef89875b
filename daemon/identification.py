"""
How well the position bias is known, and what would make it known better.

In:  Pairs of the evidence and the ClickModel that was fitted to them. Out: an interval for each position, where the
knowledge comes from, and a sentence for people; shown with the step mine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from scipy import stats

from relevanced.daemon.click_model import ClickModel, ClickModelPolicy, refit
from relevanced.daemon.pairs import POSITIONS, Floats, Pairs, some_pairs, sums
from relevanced.daemon.signals import SignalPolicy

PAGE: Final = 10  # positions that are told about
_GROUPS: Final = 8  # of queries; each is left out once
_MANY_PAIRS: Final = 100_000  # beyond it each group alone tells as much, and an eighth of it is read
_LOOSE: Final = 0.001  # of a refit, whose change matters and not its value
_MOVED_ENOUGH: Final = 0.02  # of the impressions; below it the ranks of the models say more than the log does
_KNOWN_WELL: Final = 0.25  # half the width of an interval, over its middle


@dataclass(frozen=True, slots=True)
class Identification:
    """
    What is known about the position bias.

    low, high: float64 (10,), ends of the 95 % interval of the propensities of the first ten positions; the first is 1.
    moved: share of the impressions whose pair was seen at several positions: swapped, or ranked by several versions.
    """

    propensities: Floats
    low: Floats
    high: Floats
    moved: float

    @property
    def uncertainty(self) -> float:
        """Mean half width of the intervals of positions 2 to 10, over the estimate."""
        return float(np.mean((self.high - self.low)[1:] / 2 / self.propensities[1:]))

    @property
    def sentence(self) -> str:
        """How well the bias is known, where that comes from, and what to switch on where it is not."""
        known = f"Attention by position is known to ±{self.uncertainty:.0%}"
        if self.moved < _MOVED_ENOUGH:
            return (
                f"{known} if relevance falls with the models' ranks as they say, which the log cannot tell: only"
                f" {self.moved:.1%} of what was shown has stood at several positions. Set [exploration]"
                " swap_probability = 0.05."
            )
        where = f"{self.moved:.0%} of what was shown has stood at several positions"
        if self.uncertainty > _KNOWN_WELL:
            return f"{known} so far ({where}); more traffic narrows it, and a higher [exploration] swap_probability."
        return f"{known} ({where})."

    def numbers(self) -> Mapping[str, Any]:
        """Give the figures for the dashboard."""
        rounded = {name: np.round(getattr(self, name), 4).tolist() for name in ("low", "high")}
        return {"propensity_low": rounded["low"], "propensity_high": rounded["high"], "moved": round(self.moved, 4)}


def identify(pairs: Pairs, model: ClickModel, policy: ClickModelPolicy, signals: SignalPolicy) -> Identification:
    """
    Find the intervals by leaving out groups of queries, for the impressions of one query are no independent witnesses.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, section 11.5 (the delete-d jackknife); where there
        are many pairs, batch means: each group is fitted alone.
    """
    query = np.unique(pairs.names["query_key"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    group = query % _GROUPS
    loose = replace(policy, tolerance=max(policy.tolerance, _LOOSE))
    alone = len(pairs) > _MANY_PAIRS
    curves = np.stack(
        [
            refit(some_pairs(pairs, (group == one) if alone else (group != one)), model, loose, signals).propensities
            for one in range(_GROUPS)
        ]
    )[:, :PAGE]
    logs = np.log(curves)
    spread = logs.std(axis=0, ddof=1) / np.sqrt(_GROUPS)
    if not alone:
        spread *= _GROUPS - 1
    half = stats.t.ppf(0.975, _GROUPS - 1) * spread
    estimate = model.propensities[:PAGE]
    return Identification(estimate, estimate * np.exp(-half), np.minimum(estimate * np.exp(half), 1.0), _moved(pairs))


def _moved(pairs: Pairs) -> float:
    """Share of the impressions whose pair stood at two positions or more, whatever was clicked above."""
    shown = pairs.clicks + pairs.skips
    position = pairs.place % POSITIONS
    by_pair = sums(pairs.pair, shown, len(pairs))
    # Of a pair the impressions away from its usual position tell, and as many at it.
    here = pairs.pair * POSITIONS + position
    usual = np.zeros(len(pairs))
    np.maximum.at(usual, pairs.pair, sums(here, shown, len(pairs) * POSITIONS)[here])
    total = by_pair.sum()
    return float(np.minimum(2 * (by_pair - usual), by_pair).sum() / total) if total else 0.0
