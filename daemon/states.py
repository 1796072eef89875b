"""
The moves of a cycle, as a table.

In:  the step that ended and its verdict. Out: the next step.
The enum cycle_step_name in schema.sql and the table in docs/cycle.md hold the same; a test compares them.
"""

from collections.abc import Mapping
from typing import Final

from relevanced.daemon.records import Step, Verdict

MOVES: Final[Mapping[tuple[Step, Verdict], Step]] = {
    ("mine", "done"): "train",
    ("mine", "nothing"): "ended",
    ("train", "done"): "gate",
    ("train", "nothing"): "ended",
    ("gate", "accepted"): "index",
    ("gate", "rejected"): "ended",
    ("gate", "inconclusive"): "ended",
    ("gate", "trial"): "index",
    ("index", "done"): "verify",
    ("verify", "accepted"): "promote",
    ("verify", "rejected"): "ended",
    ("promote", "done"): "ended",
    ("promote", "trial"): "ended",
    ("promote", "waiting"): "ended",
}


def next_step(step: Step, verdict: Verdict) -> Step:
    """
    Say which step follows; a failed step ends the cycle wherever it was.

    Raises: ValueError for a move that is not in the table.
    """
    if verdict == "failed" and step != "ended":
        return "ended"
    try:
        return MOVES[step, verdict]
    except KeyError:
        raise ValueError(f"A cycle does not move on from {step} with the verdict {verdict}.") from None
