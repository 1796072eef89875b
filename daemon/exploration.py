"""
Which order an answer is shown in.

In:  the document_ids of one answer, best first (in a trial of two, with slots also of other rankers), and a random
     generator.
Out: the order shown, with the policy's name and propensities; logged with the query, kept in the log store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from relevanced.daemon.interleaving import Team, team_draft
from relevanced.daemon.slots import fill_slots, live_chance, slot_places

# What fills a slot: documents that hold the words, those of the version before, or live's own just below the page.
SlotRanker = Literal["full_text", "previous", "deeper", "mixed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplorationPolicy:
    """How much of the traffic is shown something else than live's own order, and for what."""

    # Share of the answers in which neighbours are swapped, so that the effect of a position can be told from relevance;
    # 0 because a shop's ranking changes only when its owner asks for it.
    swap_probability: Annotated[float, Interval(ge=0, le=1)] = 0.0
    # Share of the sessions whose training queries are answered by live and the version on trial in turns. What only a
    # candidate finds is clicked then, and teaches the next one; nobody can click what nobody is shown.
    mix_share: Annotated[float, Interval(ge=0, le=1)] = 0.0
    # Share of the answers that give some of their first ten positions to another ranker; 0 likewise. Such an answer may
    # be worse, so a few percent; on a popular query that is enough to look far below the page.
    slot_share: Annotated[float, Interval(ge=0, le=1)] = 0.0
    slots: Annotated[int, Interval(ge=1, le=10)] = 2  # positions of such an answer; a fifth of the page
    first_slot: Annotated[int, Interval(ge=1, le=10)] = 4  # position; the first three are what most people come for
    slot_ranker: SlotRanker = "mixed"  # those that can answer, in equal shares: each finds what the others cannot
    # ms that full-text search may take for a text; it takes 4 on 5,000 documents, and an answer shall not wait long for
    # an experiment.
    full_text_ms: Annotated[int, Interval(ge=1, le=10_000)] = 100


@dataclass(frozen=True, slots=True)
class Presented:
    """
    One answer as it is shown; `policy` and `propensities` are None where nothing could have been randomised.

    An answer that gave no slots away asked no other ranker, and cannot know whether all of its slots would have been
    filled; its propensities say what they are if all were, which is at most `slot_share` less than what they are.
    """

    document_ids: Sequence[str]
    policy: str | None
    propensities: Sequence[float] | None  # for each position, P(its document is shown there | the rankings)
    teams: Sequence[Team] | None = None  # in a trial, for each position, which version put its document there
    slots: Sequence[str | None] | None = None  # for each position, which ranker filled it; None: it is live's


def gives_slots(rng: np.random.Generator, policy: ExplorationPolicy) -> bool:
    """Draw whether an answer gives slots away; those that do not may be swapped."""
    return policy.slot_share > 0 and bool(rng.random() < policy.slot_share)


def present(document_ids: Sequence[str], rng: np.random.Generator, policy: ExplorationPolicy) -> Presented:
    """
    Show an answer without slots: some with neighbours swapped.

    A randomised answer takes one of the two pairings of neighbours (ranks 1-2, 3-4, … or 2-3, 4-5, …), each as likely,
    and swaps every pair of it with probability 1/2: a document moves by one rank at most.

    Args:
        document_ids: distinct, best first.
    Source: Radlinski and Joachims, Minimally Invasive Randomization for Collecting Unbiased Preferences from
        Clickthrough Logs, AAAI 2006 (FairPairs; here on a share of the answers, with that share in the propensities).
    """
    if policy.swap_probability == 0 and policy.slot_share == 0:
        return Presented(tuple(document_ids), None, None)
    ranks = list(range(len(document_ids)))
    if policy.swap_probability and rng.random() < policy.swap_probability:
        for upper in range(int(rng.integers(2)), len(ranks) - 1, 2):
            if rng.random() < 0.5:
                ranks[upper], ranks[upper + 1] = ranks[upper + 1], ranks[upper]
    filled = min(policy.slots, len(slot_places(len(ranks), policy.first_slot)))
    return Presented(
        tuple(document_ids[rank] for rank in ranks),
        _policy_name(policy),
        tuple(_propensity(rank, position, len(ranks), filled, policy) for position, rank in enumerate(ranks)),
    )


def present_slots(
    document_ids: Sequence[str],
    rankings: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
    policy: ExplorationPolicy,
) -> Presented:
    """
    Show an answer with slots filled from other rankings; see slots.fill_slots.

    Args:
        rankings: by the name that the log gives the ranker; one that failed is left out, and may leave none.
    """
    page = fill_slots(document_ids, rankings, slots=policy.slots, first_slot=policy.first_slot, rng=rng)
    ranks = {name: rank for rank, name in enumerate(document_ids)}
    return Presented(
        tuple(page.document_ids),
        _policy_name(policy),
        tuple(
            policy.slot_share * chance
            + (1 - policy.slot_share)
            * (_swap_chance(ranks[name], position, len(ranks), policy) if name in ranks else 0)
            for position, (name, chance) in enumerate(zip(page.document_ids, page.propensities, strict=True))
        ),
        slots=tuple(page.rankers),
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


def _policy_name(policy: ExplorationPolicy) -> str:
    """Name what is randomised as the log does."""
    names = []
    if policy.slot_share:
        names.append(f"slots:{policy.slot_share:g}:{policy.slot_ranker}")
    if policy.swap_probability:
        names.append(f"fairpairs:{policy.swap_probability:g}")
    return "+".join(names)


def _propensity(rank: int, position: int, length: int, filled: int, policy: ExplorationPolicy) -> float:
    """Probability that live's `rank` is shown at `position`, both from 0, where slots would be `filled`."""
    with_slots = live_chance(rank, position, length, filled, policy.first_slot) if policy.slot_share else 0.0
    return policy.slot_share * with_slots + (1 - policy.slot_share) * _swap_chance(rank, position, length, policy)


def _swap_chance(rank: int, position: int, length: int, policy: ExplorationPolicy) -> float:
    """The same of an answer without slots; above 0 for those that are at most one apart."""
    # One pairing of the two joins a rank with a given neighbour, and that pair is swapped half of the time.
    swap = policy.swap_probability / 4
    neighbours = (rank > 0) + (rank < length - 1)
    if position == rank:
        return 1 - swap * neighbours
    return swap if abs(position - rank) == 1 else 0.0
