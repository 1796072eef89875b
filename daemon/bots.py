"""
Bots: the actors that no person can be.

In:  the log as of a snapshot. Out: the marked actors, which the evidence leaves out and `relevanced validate` counts.

They stay in the log. Whoever a bound wrongs is back with the next cycle once the bound is moved.
"""

from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
from annotated_types import Ge, Gt, Interval

from relevanced.daemon.log_store import LogStore


@dataclass(frozen=True, kw_only=True, slots=True)
class BotPolicy:
    """Beyond which bounds an actor is none of the people whose clicks teach."""

    # One a minute for a working day. Wikimedia's MjoLniR draws the line at 50 a day for an address that looks things
    # up; people who search for a living, and every half-typed word of a search box, make more.
    searches_per_day: Annotated[int, Ge(1)] = 500
    clicks_per_day: Annotated[int, Ge(1)] = 500  # likewise
    min_actions: Annotated[int, Ge(10)] = 50  # before a rhythm is judged; fewer gaps may be alike by chance
    # From seeing to pressing a key: the fastest of Card, Moran and Newell's Model Human Processor (1983) take 0.105 s.
    reaction_seconds: Annotated[float, Gt(0)] = 0.1
    hasty_share: Annotated[float, Interval(ge=0, le=1)] = 0.5  # of the clicks; a double click has one of two
    pause_seconds: Annotated[float, Gt(0)] = 1.0  # a shorter gap between actions is typing, whose rhythm software sets
    # Ninth less first decile of an actor's pauses, over their median. People's pauses are heavy-tailed (Barabási,
    # Nature 435, 2005), so it is beyond 1 for them; a script that sleeps 5 s and waits for an answer is near 0.1.
    pause_spread: Annotated[float, Interval(ge=0, le=1)] = 0.3


def marked_bots(log: LogStore, snapshot_id: int, policy: BotPolicy) -> pa.Table:
    """
    Mark the actors beyond a bound.

    Returns: actor (client_id, else session_id), searches, clicks, and bound, the name of the bound that was broken:
        searches_per_day, clicks_per_day, hasty_clicks or even_pauses; one row for each, in the order of their names.
    """
    return log.read(
        "bots",
        snapshot_id,
        searches_per_day=policy.searches_per_day,
        clicks_per_day=policy.clicks_per_day,
        min_actions=policy.min_actions,
        reaction_seconds=policy.reaction_seconds,
        hasty_share=policy.hasty_share,
        pause_seconds=policy.pause_seconds,
        pause_spread=policy.pause_spread,
    )
