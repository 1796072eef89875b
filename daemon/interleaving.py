"""
Interleaving: one answer out of two rankings, so that its clicks say which of the two people prefer.

In:  the document_ids of the live version and of another one, best first, and a random generator.
Out: the order shown with its propensities, and which of the two put each document there; logged with the query.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

DRAFTED: Final = 10  # positions that both draft for, a page; below them live's order goes on
_ROUNDS: Final = DRAFTED // 2

# Who put a document there. Both: the next one of either, or below what they drafted; a click on it speaks for neither.
Team = Literal["live", "other", "both"]
Draft = list[tuple[str, Team]]


@dataclass(frozen=True, slots=True)
class Interleaved:
    """One answer as it is shown."""

    document_ids: Sequence[str]
    teams: Sequence[Team]  # for each position
    propensities: Sequence[float]  # for each position, P(its document is shown there | both rankings)


def takes_part(trial_id: int, session: str, share: float) -> bool:
    """Draw whether a session is interleaved: the same on every replica, anew for each trial."""
    digest = hashlib.blake2b(session.encode(), digest_size=8, key=str(trial_id).encode(), person=b"trial").digest()
    return int.from_bytes(digest) < share * 2**64


def team_draft(live: Sequence[str], other: Sequence[str], length: int, rng: np.random.Generator) -> Interleaved:
    """
    Let two rankings draft in turns, as captains do: in each round a coin says who picks first, and each picks its best
    document that is not there yet. So each has as good a place as the other, and somebody who clicks without looking
    prefers neither. A document that both would pick next is nobody's: in the original the coin gives it to one of them,
    and those are the most clicked documents, so its credit would be the loudest part of the noise.

    Args:
        live, other: distinct document_ids, best first.
        length: how many documents to show, at most.
    Source: Radlinski, Kurup and Joachims, How does clickthrough data reflect retrieval quality?, CIKM 2008.
    """
    drawn = _draft(live, other, length, rng.random(_ROUNDS) < 0.5)
    # All 32 sequences of coins, as likely as one another: exact, and a fraction of a millisecond.
    shown_there = np.zeros(len(drawn))
    for coins in product((False, True), repeat=_ROUNDS):
        possible = _draft(live, other, length, coins)
        shown_there += [name == there for (name, _), (there, _) in zip(drawn, possible, strict=True)]
    return Interleaved(
        document_ids=tuple(name for name, _ in drawn),
        teams=tuple(team for _, team in drawn),
        propensities=tuple((shown_there / 2**_ROUNDS).tolist()),
    )


def _draft(live: Sequence[str], other: Sequence[str], length: int, other_first: Iterable[bool]) -> Draft:
    """Draft by given coins; both rankings together may hold fewer documents than `length`."""
    shown: dict[str, Team] = {}
    rankings: dict[Team, Sequence[str]] = {"live": live, "other": other}
    for first in other_first:
        left = {team: [name for name in ranking if name not in shown] for team, ranking in rankings.items()}
        agreed = left["live"][:1] == left["other"][:1] or not all(left.values())
        # Only where they agree on the first of the round may they agree on the second; elsewhere it must keep its team,
        # or the two would no longer have as many credited places whichever way the coin falls.
        seconds = [ranking[1:2] for ranking in left.values()]
        all_agreed = agreed and (seconds[0] == seconds[1] or not all(seconds))
        order: tuple[Team, Team] = ("other", "live") if first else ("live", "other")
        for team, nobodys in zip(order, (agreed, all_agreed), strict=True):
            pick = next((name for name in left[team] if name not in shown), None)
            if pick is not None and len(shown) < length:
                shown[pick] = "both" if nobodys else team
    for name in (*live, *other):
        if len(shown) < length:
            shown.setdefault(name, "both")
    return list(shown.items())
