"""
Which order an answer is shown in.

In:  the document_ids of one answer, best first (in a trial of two), and a random generator.
Out: the order shown, with the policy's name and propensities; logged with the query, kept in the log store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from relevanced.daemon.interleaving import Team, team_draft


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplorationPolicy:
    """How much of the traffic is shown something else than live's own order, and for what."""

    # Share of the answers in which neighbours are swapped, so that the effect of a position can be told from relevance;
    # 0 because a shop's ranking changes only when its owner asks for it.
    swap_probability: Annotated[float, Interval(ge=0, le=1)] = 0.0
    # Share of the sessions whose training queries are answered by live and the version on trial in turns. What only a
    # candidate finds is clicked then, and teaches the next one; nobody can click what nobody is shown.
    mix_share: Annotated[float, Interval(ge=0, le=1)] = 0.0


@dataclass(frozen=True, slots=True)
class Presented:
    """One answer as it is shown; `policy` and `propensities` are None where nothing could have been randomised."""

    document_ids: Sequence[str]
    policy: str | None
    propensities: Sequence[float] | None  # for each position, P(its document is shown there | the rankings)
    teams: Sequence[Team] | None = None  # in a trial, for each position, which version put its document there


def present(document_ids: Sequence[str], rng: np.random.Generator, policy: ExplorationPolicy) -> Presented:
    """
    Show some answers with neighbours swapped.

    A randomised answer takes one of the two pairings of neighbours (ranks 1-2, 3-4, … or 2-3, 4-5, …), each as likely,
    and swaps every pair of it with probability 1/2: a document moves by one rank at most.

    Args:
        document_ids: distinct, best first.
    Source: Radlinski and Joachims, Minimally Invasive Randomization for Collecting Unbiased Preferences from
        Clickthrough Logs, AAAI 2006 (FairPairs; here on a share of the answers, with that share in the propensities).
    """
    if policy.swap_probability == 0:
        return Presented(tuple(document_ids), None, None)
    ranks = list(range(len(document_ids)))
    if rng.random() < policy.swap_probability:
        for upper in range(int(rng.integers(2)), len(ranks) - 1, 2):
            if rng.random() < 0.5:
                ranks[upper], ranks[upper + 1] = ranks[upper + 1], ranks[upper]
    return Presented(
        tuple(document_ids[rank] for rank in ranks),
        f"fairpairs:{policy.swap_probability:g}",
        tuple(_propensity(rank, position, len(ranks), policy) for position, rank in enumerate(ranks)),
    )


def present_both(
    live: Sequence[str], other: Sequence[str], length: int, rng: np.random.Generator, trial_id: int
) -> Presented:
    """Show the answers of live and of the version on trial in one, interleaved; see interleaving.team_draft."""
    drawn = team_draft(live, other, length, rng)
    return Presented(drawn.document_ids, trial_policy(trial_id), drawn.propensities, drawn.teams)


def trial_policy(trial_id: int) -> str:
    """Name a trial as the log does."""
    return f"team-draft:trial-{trial_id}"


def _propensity(rank: int, position: int, length: int, policy: ExplorationPolicy) -> float:
    """Probability that `rank` is shown at `position`; both from 0, and at most one apart."""
    # One pairing of the two joins a rank with a given neighbour, and that pair is swapped half of the time.
    swap = policy.swap_probability / 4
    neighbours = (rank > 0) + (rank < length - 1)
    return 1 - swap * neighbours if position == rank else swap
