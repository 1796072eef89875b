"""
What an assessment has found, and what it advises.

In:  how each way to rank does beside the live model, how fine-tuning grows with what it is taught, what a re-index
costs. Out: sentences; said by the command assess.

Reranking, hybrid search and contexts cost no training and no re-index for each new model, so what they bring is to be
had first. What a better model brings behind them is less than it brings alone, and is what fine-tuning is worth then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FULL_TEXT: Final = "full-text search"
LIVE: Final = "live model"
HYBRID: Final = "hybrid search"
RERANKED: Final = "reranking"
CONTEXTUAL: Final = "contextual retrieval"
WITHOUT_TRAINING: Final = (HYBRID, RERANKED, CONTEXTUAL)
_WORTH: Final = 0.01  # NDCG@10: less is not worth the work
_ENOUGH: Final = 100  # queries, as the gate asks for


@dataclass(frozen=True, slots=True)
class Way:
    """One way to rank: NDCG@10 on the judged queries, and its difference from another's with a 95 % interval."""

    ndcg: float
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        """Say the difference."""
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    @property
    def pays(self) -> bool:
        """Whether it brings what is worth the work, and no luck explains it."""
        return self.low > 0 and self.difference >= _WORTH


@dataclass(frozen=True, slots=True)
class Reindex:
    """What a re-index takes, by a probe on this machine."""

    documents: int
    seconds: float
    megabytes: float  # of vectors alone; the HNSW takes about as much again


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """All that was found."""

    queries: int
    source: str  # of the queries
    ways: Mapping[str, Way]  # against live
    rerank_seconds: float | None  # for each query; None: nothing was reranked
    curve: Sequence[tuple[int, Way]]  # pairs that were taught, and what that is against live; fewest first
    doubling: Way | None  # the last of the curve against the one before
    stacked: Mapping[str, Way]  # ways without training: what was taught last in the place of live, against live there
    reindex: Reindex
    remarks: Sequence[str]


def advice(found: Assessment) -> list[str]:
    """Say what to do first, as far as the intervals tell."""
    sentences = []
    if found.queries < _ENOUGH:
        sentences.append(f"{found.queries:,} queries tell little; judge {_ENOUGH} or more before you decide.")
    words = found.ways.get(FULL_TEXT)
    if words and words.low > 0:
        sentences.append(
            f"Full-text search alone ranks better than the live model, {words}: look at the model, its prompts and its"
            " maximum length first."
        )
    cheap = {name: way for name in WITHOUT_TRAINING if (way := found.ways.get(name)) and way.pays}
    best = max(cheap, key=lambda name: cheap[name].difference, default=None)
    if best:
        sentences.append(f"First: {best} brings {cheap[best]}; {_price(best, found)}.")
    else:
        sentences.append("None of the ways without training that were tried brings what can be told from luck.")
    sentences.append(_of_training(found, best))
    cost = found.reindex
    sentences.append(
        f"Each new version encodes {cost.documents:,} documents: about {_duration(cost.seconds)} on this machine, and"
        f" {cost.megabytes:,.0f} MB of vectors."
    )
    return sentences


def _price(way: str, found: Assessment) -> str:
    """What it costs to have."""
    if way == RERANKED:
        return f"it needs no training, and {found.rerank_seconds or 0.0:.2f} s for each query on this machine"
    if way == CONTEXTUAL:
        return "it needs the contexts written, and one re-index"
    return "it needs no training and no other index"


def _of_training(found: Assessment, best: str | None) -> str:
    """
    Say what fine-tuning brings behind the best of the other ways, or alone where none pays.

    Args:
        best: of the ways without training that pay.
    """
    if not found.curve:
        return "What fine-tuning would bring cannot be told yet: there is nothing to teach."
    pairs, alone = found.curve[-1]
    behind = found.stacked.get(best) if best else None
    brings = f"Fine-tuning on {pairs:,} pairs brings {alone}"
    if behind:
        brings += f" alone, and {behind} behind {best}"
    way = behind or alone
    if way.high < 0:
        return f"{brings}: do not, for it ranks worse."
    if way.low <= 0:
        return f"{brings}, which luck may explain: not yet. {_of_more(found)}"
    if not way.pays:
        return f"{brings}, which is not worth a re-index: not yet. {_of_more(found)}"
    remark = ""
    if behind and behind.ndcg < alone.ndcg:  # what helped a weak model may hold a better one back
        both = f"alone it ranks at {alone.ndcg:.3f} then, and with {best} at {behind.ndcg:.3f}"
        remark = f" But {both}: assess again once it is live."
    return f"{brings}: it is worth it{' after that' if best else ''}.{remark} {_of_more(found)}"


def _of_more(found: Assessment) -> str:
    """Say what more pairs would bring, by what the last doubling has brought."""
    doubling = found.doubling
    if doubling is None:
        return "Collect more pairs."
    brought = f"The last doubling of the pairs brought {doubling}"
    if doubling.pays:
        return f"{brought}, so more will bring more."
    if doubling.high < _WORTH:
        return f"{brought}, so more will bring little."
    return f"{brought}: whether more will bring more cannot be told."


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 1):.0f} s"
