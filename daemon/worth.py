"""
Is a full fine-tuning worth its re-index, where an adapter of the queries needs none?

In:  the gate's comparisons of both with live, and of the two with one another. Out: which of them goes on, and what is
said of it; read by contest. The settings of the adapter are here too, where nothing heavy is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from annotated_types import Ge, Interval

from relevanced.daemon.gate import Comparison, Difference, GateVerdict


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterPolicy:
    """
    Whether an adapter is tried beside the full fine-tuning, how it learns, and when it is enough.

    The defaults were chosen by NDCG@10 on a fifth of the training queries of clihelp and ObliQA, with MiniLM and 4,000
    triplets. It rose from .379 to .413 and from .587 to .621; learning rates from 1e-4 to 3e-4 and pulls from 1 to 30
    were within .007 of that, a rank of 64 .006 and .008 below, and a temperature of .02 or .1 on clihelp .01.
    """

    # first: the full fine-tuning goes on in place of an accepted adapter only where it is worth its re-index.
    mode: Literal["off", "first"] = "off"
    # NDCG@10, full fine-tuning minus adapter; the low end of the gate's interval must exceed it.
    worth_reindex: Annotated[float, Interval(ge=0, lt=1)] = 0.01
    rank: Annotated[int, Ge(0)] = 0  # of what is added to the identity; 0: any, a full matrix
    learning_rate: Annotated[float, Interval(gt=0, lt=1)] = 3e-4  # AdamW's
    pull: Annotated[float, Ge(0)] = 10.0  # towards the identity: AdamW's decay of what is added to it
    temperature: Annotated[float, Interval(gt=0, le=1)] = 0.05  # of the softmax over cosines, as in [training]
    batch_size: Annotated[int, Ge(2)] = 256  # triplets of one step; their documents are negatives of one another
    epochs: Annotated[int, Ge(1)] = 100  # at most: with 4,000 triplets it stops after 20, with 100 it needs them all
    patience: Annotated[int, Ge(1)] = 5  # epochs without a better loss on the checking queries that end the training
    check_share: Annotated[float, Interval(gt=0, lt=1)] = 0.15  # of the training queries, which only check
    seed: int = 0  # of the order of the triplets


def worth_its_reindex(full: Comparison, adapter: Comparison, between: Difference, policy: AdapterPolicy) -> bool:
    """
    Whether the full fine-tuning goes on rather than the adapter, or says what the gate says where neither does.

    Args:
        full, adapter: against live, with all that is held against them.
        between: full minus adapter, on the same queries.
    """
    if adapter.verdict != "accepted":
        return True
    return full.verdict == "accepted" and between.low > policy.worth_reindex


def said_of_both(
    full: tuple[int, Comparison], adapter: tuple[int, Comparison], between: Difference, policy: AdapterPolicy
) -> str:
    """
    Say which of the two goes on and why, after the sentence about it.

    Args:
        full, adapter: version and comparison with live of each.
    """
    (number, mine), (other, its) = full, adapter
    against = f"is {between.difference:+.3f} ({between.low:.3f} to {between.high:.3f}) against it"
    if its.verdict != "accepted":
        too = " too" if its.verdict == mine.verdict else ""
        return f" Version {other}, a query-side adapter that needs no re-index, {_WAS[its.verdict]}{too}: {its.found}."
    if worth_its_reindex(mine, its, between, policy):
        return (
            f" Version {other}, a query-side adapter that needs no re-index, {_WAS[its.verdict]} too; the full"
            f" fine-tuning, version {number}, {against}: worth its re-index."
        )
    why = "not worth its re-index" if mine.verdict == "accepted" else f"it {_WAS[mine.verdict]}"
    return (
        f" Version {other} is a query-side adapter that needs no re-index; the full fine-tuning, version {number},"
        f" {against}: {why}."
    )


_WAS: Final[Mapping[GateVerdict, str]] = {
    "accepted": "was accepted",
    "rejected": "was rejected",
    "inconclusive": "was left undecided",
}
