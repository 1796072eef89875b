"""
What a score of one version is worth on another's scale, so that a threshold keeps its meaning.

In:  runs of the same queries by two versions. Out: a monotone map between their scores, and how far they have shifted;
kept in the version's manifest, and applied by search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from relevanced.daemon.metrics import Run

SHOWN: Final = 10  # documents of a query, as on a page: a threshold decides about these
_KNOTS: Final = 51

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    A monotone map, linear between knots: `scores` of a version are worth `worth` on the scale of version `scale`.

    shift: the largest difference between the shares of both that exceed one and the same threshold, unmapped; the
    Kolmogorov-Smirnov statistic.
    """

    scale: int
    scores: Sequence[float]
    worth: Sequence[float]
    shift: float

    def of(self, score: float) -> float:
        """What a score is worth; beyond the knots it moves in parallel, so that order is kept."""
        beyond = min(score - self.scores[0], 0.0) + max(score - self.scores[-1], 0.0)
        return float(np.interp(score, self.scores, self.worth)) + beyond

    def numbers(self) -> dict[str, Any]:
        """Give what the manifest keeps."""
        return asdict(self)


def calibrate(run: Run, scaled: Run, scale: int) -> Calibration | None:
    """
    Map the scores that a version gives to what it shows, quantile by quantile, to those of another version.

    A threshold's meaning is how many documents pass it. On clihelp the share that passes was off by .26 at most, over
    thresholds at each tenth of the old scores, without a map, by .20 with isotonic regression of old scores on new
    ones, which shrinks them to their mean, and by .04 with quantiles; 157 queries to fit by, 157 others to measure.

    Args:
        run, scaled: of the same queries; the first SHOWN of each count.
    Returns: None where a version shows nothing.
    """
    new, old = _shown(run), _shown(scaled)
    if not len(new) or not len(old):
        return None
    places = np.linspace(0, 1, _KNOTS)
    scores, first = np.unique(np.quantile(new, places), return_index=True)
    worth = np.quantile(old, places)[first]
    return Calibration(scale, scores.tolist(), worth.tolist(), _shift(new, old))


def read_calibration(manifest: Mapping[str, Any]) -> Calibration | None:
    """Give what the gate has noted in a version's manifest; None where it noted nothing."""
    noted = manifest.get("metrics", {}).get("calibration")
    return Calibration(**noted) if noted else None


def _shift(new: Floats, old: Floats) -> float:
    thresholds = np.concatenate([new, old])
    shares = [np.searchsorted(np.sort(some), thresholds) / len(some) for some in (new, old)]
    return float(np.abs(shares[0] - shares[1]).max())


def _shown(run: Run) -> Floats:
    best = [sorted(scores.values(), reverse=True)[:SHOWN] for scores in run.values()]
    return np.array([score for scores in best for score in scores])
