"""
Slots: a few positions of an answer that another ranker fills, so that what live leaves out can be clicked at all.

In:  the document_ids of live's page, other rankings by the name of their ranker, and a random generator.
Out: the page with its slots, how likely each place was, and who filled it; exploration mixes it with the other answers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

LAST_SLOT: Final = 10  # a page; what stands below is hardly looked at
DRAWN_FROM: Final = 10  # of a ranker's documents that are not on the page, the first so many
DRAWN_FROM_DEEPER: Final = 40  # of live's own, just below the page: they are good guesses longer


@dataclass(frozen=True, slots=True)
class Filled:
    """One page with its slots; where no ranker had anything new, live's page as it was."""

    document_ids: Sequence[str]
    propensities: Sequence[float]  # for each position, P(its document is there | slots are filled, the rankings)
    rankers: Sequence[str | None]  # for each position, who filled it ("full_text+deeper": both might); None: live


def fill_slots(
    page: Sequence[str],
    rankings: Mapping[str, Sequence[str]],
    *,
    slots: int,
    first_slot: int,
    rng: np.random.Generator,
) -> Filled:
    """
    Insert documents of other rankings into a page; what they displace moves down, and the last fall off.

    Which documents: each ranker that has any new ones has the same share, and within it the chance of a document falls
    as 1/rank, so that over many answers to a popular query not the same two are shown for ever. They are drawn by
    systematic sampling, under which the chance of each to be among them is known exactly, however many slots there are.
    Where: each set of positions is as likely, and so is each order of the documents in them.

    Args:
        page: live's document_ids, distinct, best first; the page keeps its length.
        rankings: document_ids, distinct, best first, by the ranker's name; those on the page are passed over.
        slots: how many to fill, as far as there are new documents and positions.
        first_slot: the first position, from 1, that may be one.
    Source: Madow, On the theory of systematic sampling II, Annals of Mathematical Statistics 1949 (unequal chances).
    """
    chances, named = _fresh(set(page), rankings)
    places = slot_places(len(page), first_slot)
    filled = min(slots, len(places), len(chances))
    drawn = _draw(chances, filled, rng)
    # Without replacement and shuffled, so each drawn document is as likely in each of the places.
    into = dict(zip(rng.choice(places, filled, replace=False).tolist() if filled else [], drawn, strict=True))
    names = list(chances)
    included = inclusion_chances(np.array(list(chances.values())), filled)
    rest = iter(enumerate(page))
    document_ids: list[str] = []
    propensities: list[float] = []
    for position in range(len(page)):
        if position in into:
            document_ids.append(names[into[position]])
            propensities.append(float(included[into[position]]) / len(places))
        else:
            rank, name = next(rest)
            document_ids.append(name)
            propensities.append(live_chance(rank, position, len(page), filled, first_slot))
    rankers = [named[names[into[position]]] if position in into else None for position in range(len(page))]
    return Filled(document_ids, propensities, rankers)


def slot_places(length: int, first_slot: int) -> range:
    """The places, from 0, of a page of this length that may be slots."""
    return range(first_slot - 1, min(LAST_SLOT, length))


def live_chance(rank: int, position: int, length: int, filled: int, first_slot: int) -> float:
    """
    Probability that live's document of `rank` stands at `position`, both from 0, on a page with `filled` slots.

    It does when position is no slot and position - rank of the slots lie above it.
    """
    places = slot_places(length, first_slot)
    above = sum(place < position for place in places)
    below = sum(place > position for place in places)
    moved = position - rank
    if not 0 <= moved <= filled:
        return 0.0
    return comb(above, moved) * comb(below, filled - moved) / comb(len(places), filled)


def inclusion_chances(chances: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """
    Probabilities of documents to be among `count` drawn: in proportion to their chances, and never above 1.

    Args:
        chances: float64 (n,), above 0; n is at least count.
    """
    included = np.zeros(len(chances))
    certain = np.zeros(len(chances), dtype=bool)
    while count > (sure := int(certain.sum())):
        included = np.where(certain, 1.0, chances * (count - sure) / chances[~certain].sum())
        # What would have more than 1 is certain, and what it has too much goes to the others; the tolerance keeps the
        # systematic draw from meeting one of nearly 1 twice.
        above = ~certain & (included > 1 - 1e-9)
        if not above.any():
            return included
        certain |= above
    return certain.astype(np.float64)


def _fresh(page: Collection[str], rankings: Mapping[str, Sequence[str]]) -> tuple[dict[str, float], dict[str, str]]:
    """The chance of each document that is not on the page, and who ranks it."""
    fresh: dict[str, list[str]] = {}
    for ranker, ranking in rankings.items():
        most = DRAWN_FROM_DEEPER if ranker == "deeper" else DRAWN_FROM
        if found := [name for name in ranking if name not in page][:most]:
            fresh[ranker] = found
    chances: dict[str, float] = {}
    named: dict[str, str] = {}
    for ranker, found in fresh.items():
        whole = sum(1 / rank for rank in range(1, len(found) + 1)) * len(fresh)
        for rank, name in enumerate(found, start=1):
            chances[name] = chances.get(name, 0.0) + 1 / rank / whole
            named[name] = f"{named[name]}+{ranker}" if name in named else ranker
    return chances, named


def _draw(chances: Mapping[str, float], count: int, rng: np.random.Generator) -> list[int]:
    """Draw `count` different places in chances, systematically."""
    if not count:
        return []
    included = inclusion_chances(np.array(list(chances.values())), count)
    certain: list[int] = np.flatnonzero(included == 1).tolist()
    uncertain = np.flatnonzero(included < 1)
    if len(certain) == count:
        return certain
    ends = np.cumsum(included[uncertain])
    marks = rng.random() + np.arange(count - len(certain))
    found = np.minimum(np.searchsorted(ends, marks, side="right"), len(ends) - 1)  # rounding may leave ends short
    return [*certain, *uncertain[found].tolist()]
