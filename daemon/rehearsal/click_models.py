"""
How simulated people look at a page and click: the click models, by name.

In:  one position after the other, from the top, with whether its document is relevant. Out: whether it is clicked.

    pbm      each position is examined by chance, by itself (Craswell et al., WSDM 2008, examination hypothesis)
    cascade  one looks from the top until one leaves or is satisfied (Chapelle and Zhang, WWW 2009: a dynamic Bayesian
             network, simplified: it continues by the position)
    trust    as pbm, but what stands high is taken for relevant more easily (Agarwal et al., WWW 2019: trust bias)
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

import numpy as np

Bias = Literal["lovbench", "inverse", "none"]
Clicks = Literal["pbm", "cascade", "trust"]

# Clicks by position in the term search of a library portal (LOVBench); nobody there looks beyond the page of ten.
LOVBENCH_CLICKS: Final = (5041, 2338, 1323, 890, 700, 512, 385, 388, 343, 328)

SATISFIED: Final = {True: 0.8, False: 0.2}  # P(ends there | clicked), by relevance: few wrong clicks end a search
# P(click | examined) of what is not relevant is so much higher at the top, falling off as 1 / position: a round figure
# for epsilon minus of Agarwal et al., by which the first of the page is clicked wrongly more than twice as often.
TRUST: Final = 0.15
DOUBT: Final = 0.05  # and that of what is relevant comes to be so much lower towards the end of the page


def examination(position: int, bias: Bias) -> float:
    """Probability that a searcher who clicks nothing looks at a position (from 1)."""
    match bias:
        case "lovbench":
            return LOVBENCH_CLICKS[position - 1] / LOVBENCH_CLICKS[0] if position <= len(LOVBENCH_CLICKS) else 0.0
        case "inverse":
            return 1 / position
        case "none":
            return 1.0


class Reader(Protocol):
    """One person before one page: PositionBased, Cascade or Trusting."""

    def clicks(self, position: int, *, relevant: bool, rng: np.random.Generator) -> bool:
        """Whether the document at a position is clicked; positions come in their order, each once."""
        ...


class PositionBased:
    """P(click) = examination(position) x attraction, which is 1 - noise for relevant documents, else noise."""

    def __init__(self, bias: Bias, noise: float) -> None:
        self._bias, self._noise = bias, noise

    def clicks(self, position: int, *, relevant: bool, rng: np.random.Generator) -> bool:
        return bool(rng.random() < examination(position, self._bias) * self._attraction(position, relevant))

    def _attraction(self, _position: int, relevant: bool) -> float:
        return 1 - self._noise if relevant else self._noise


class Trusting(PositionBased):
    """Attraction depends on the position too; a document that is not relevant never attracts more than one that is."""

    def _attraction(self, position: int, relevant: bool) -> float:
        of_relevant = 1 - self._noise - DOUBT * (1 - 1 / position)
        return of_relevant if relevant else min(self._noise + TRUST / position, of_relevant)


class Cascade:
    """Looks on with probability examination(k + 1) / examination(k), unless what was clicked has satisfied."""

    def __init__(self, bias: Bias, noise: float) -> None:
        self._bias, self._noise = bias, noise
        self._looks = True

    def clicks(self, position: int, *, relevant: bool, rng: np.random.Generator) -> bool:
        if not self._looks:
            return False
        clicked = bool(rng.random() < (1 - self._noise if relevant else self._noise))
        satisfied = clicked and rng.random() < SATISFIED[relevant]
        here, below = (examination(one, self._bias) for one in (position, position + 1))
        self._looks = not satisfied and bool(rng.random() < below / here)
        return clicked


READERS: Final[Mapping[Clicks, Callable[[Bias, float], Reader]]] = {
    "pbm": PositionBased,
    "cascade": Cascade,
    "trust": Trusting,
}
