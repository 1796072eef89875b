"""
What people do with a document, and what it says about it before the log has said more.

In:  the actions of clicks and feedback. Out: SIGNALS (action, lift), by which the statement `evidence` picks what
counts and the click model begins.

A lift is how many times likelier an action is on a relevant document than on another that was looked at as well. Above
1 it speaks for the document, below 1 against it. These are starts: the click model learns each from the log, which also
shows whether people here buy what they like, and never turns one round.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Annotated, Final

import pyarrow as pa
from annotated_types import Ge, Gt

CLICK: Final = "click"  # one that says nothing of the time; `click:short` and `click:long` do
REFORMULATION: Final = "reformulation"  # found under other words by one who had typed these first

# Between a click and twice a click lies what Kim et al. (WSDM 2014) found of dwell times: 30 s tell satisfied readers.
LIFTS: Final[Mapping[str, float]] = {
    "purchase": 50,
    "upvote": 50,
    "add_to_cart": 20,
    "cite": 20,
    "copy": 20,
    "click:long": 20,
    CLICK: 10,
    "click:short": 5,
    REFORMULATION: 5,
    "downvote": 0.02,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalPolicy:
    """Which actions count, and for how much at first."""

    # action -> lift, beside or instead of LIFTS; any action_name of an event may stand here. 1 leaves an action out.
    lift: Mapping[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    # Actions of each kind that its start counts for: so many of a kind, and the log has half of the say.
    pseudo_count: Annotated[float, Gt(0)] = 20.0
    short_dwell: Annotated[float, Ge(0)] = 10.0  # s; who is back sooner found less than a click promises
    long_dwell: Annotated[float, Ge(0)] = 30.0  # s; who is gone so long found more
    # s between two searches of a session that may be one question in other words; 0 takes no such evidence.
    reformulation_within: Annotated[float, Ge(0)] = 300.0
    # Hear each actor once, of a pair and of a document over all queries; False takes each search for another actor's,
    # for who wants to see in a rehearsal what that keeps away.
    one_voice: bool = True
    # Days after which what was done counts for half, for documents or interests that change; 0: it counts for ever.
    half_life_days: Annotated[float, Ge(0)] = 0.0

    @property
    def lifts(self) -> Mapping[str, float]:
        """What counts at all."""
        return {action: lift for action, lift in {**LIFTS, **self.lift}.items() if lift != 1}

    def parameters(self) -> dict[str, float]:
        """What the statement `evidence` takes beside SIGNALS; a response as telling as a click ends a search."""
        return {
            "short_dwell": self.short_dwell,
            "long_dwell": self.long_dwell,
            "reformulation_within": self.reformulation_within,
            "half_life_days": self.half_life_days,
            "one_voice": self.one_voice,
            "good_lift": LIFTS[CLICK],
        }

    def table(self) -> pa.Table:
        """Give SIGNALS: action, lift, and how telling it is; of several an actor's most telling action counts."""
        names, lifts = zip(*sorted(self.lifts.items()), strict=True) if self.lifts else ((), ())
        return pa.table(
            {
                "action": pa.array(names, pa.string()),
                "lift": pa.array(lifts, pa.float64()),
                "telling": pa.array([abs(log(lift)) for lift in lifts], pa.float64()),
            }
        )
