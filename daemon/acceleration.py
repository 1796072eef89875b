"""
Fixed points found in fewer steps: Anderson acceleration of a map such as one pass of EM.

In:  a map of vectors and a start. Out: the proposals that converge to where the map moves nothing.

The next point is the combination of the last steps whose moves cancel best, as in DAAREM (Henderson and Varadhan,
JCGS 2019), with the guard by the length of the move instead of by the likelihood, which costs a pass and, with priors
that are isotonic and drawn towards one another, is nobody's to write down.
"""

from collections import deque
from typing import Final

import numpy as np

from relevanced.daemon.pairs import Floats

_REMEMBERED: Final = 6  # steps; more are mostly parallel to these
_WORSE: Final = 2.0  # times the shortest move so far, from which on what was remembered misleads
_FARTHEST: Final = 2.0  # of one coordinate beyond the map's own step: coordinates are logarithms


class Anderson:
    """Proposes where to go on, from each point and where the map has sent it."""

    def __init__(self) -> None:
        self._points: deque[Floats] = deque(maxlen=_REMEMBERED)
        self._moves: deque[Floats] = deque(maxlen=_REMEMBERED)
        self._shortest = np.inf

    def propose(self, point: Floats, image: Floats) -> Floats:
        """Give the next point to try; `image` itself where nothing better is known."""
        move = image - point
        length = float(np.linalg.norm(move))
        if length > _WORSE * self._shortest:
            self._points.clear()
            self._moves.clear()
            self._shortest = length
        self._shortest = min(self._shortest, length)
        self._points.append(point)
        self._moves.append(move)
        if len(self._moves) == 1:
            return image
        of_points, of_moves = (np.diff(np.stack(kept), axis=0).T for kept in (self._points, self._moves))
        weights = np.linalg.lstsq(of_moves, move, rcond=1e-8)[0]
        proposed: Floats = image - np.clip((of_points + of_moves) @ weights, -_FARTHEST, _FARTHEST)
        return proposed
