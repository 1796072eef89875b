"""
What an assessment has found, and what it advises.

In:  how each way to rank does beside the live model, how fine-tuning grows with what it is taught, what a re-index
costs. Out: sentences; said by the command assess.

Reranking, hybrid search and contexts cost no training and no re-index for each new model, so what they bring is to be
had first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FULL_TEXT: Final = "full-text search"
LIVE: Final = "live model"
HYBRID: Final = "hybrid, fused by rank"
RERANKED: Final = "live, reranked"
CONTEXTUAL: Final = "live, with contexts"
# What each costs to have, for the sentence.
_FIRST: Final = {
    HYBRID: "it needs no training and no other index",
    RERANKED: "it needs no training, and time for each query",
    CONTEXTUAL: "it needs the contexts written and one re-index",
}
_WORTH: Final = 0.01  # NDCG@10: less is not worth the work


@dataclass(frozen=True, slots=True)
class Way:
    """One way to rank: NDCG@10 on the judged queries, and its difference from live's with a 95 % interval."""

    ndcg: float
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        """Say the difference."""
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


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
    ways: Mapping[str, Way]
    curve: Sequence[tuple[int, Way]]  # pairs that it was taught, and how it does then; fewest first
    reindex: Reindex
    remarks: Sequence[str]


def advice(found: Assessment) -> list[str]:
    """Say what to do first, as far as the intervals tell."""
    sentences = []
    if found.queries < 100:
        sentences.append(f"{found.queries:,} queries tell little; judge 100 or more before you decide.")
    words = found.ways.get(FULL_TEXT)
    if words and words.low > 0:
        sentences.append(
            f"Full-text search alone ranks better than the live model, {words}: look at the model, its prompts and its"
            " maximum length first."
        )
    cheap = {name: way for name in _FIRST if (way := found.ways.get(name)) and way.low > 0 and way.difference >= _WORTH}
    best = max(cheap, key=lambda name: cheap[name].difference, default=None)
    if best:
        sentences.append(f"First: {best}, brings {cheap[best]}, and {_FIRST[best]}.")
    else:
        sentences.append("None of the ways without training that were tried brings what can be told from luck.")
    sentences.append(_of_training(found, cheap[best] if best else None))
    cost = found.reindex
    sentences.append(
        f"Each new version encodes {cost.documents:,} documents: about {_duration(cost.seconds)} on this machine, and"
        f" {cost.megabytes:,.0f} MB of vectors."
    )
    return sentences


def _of_training(found: Assessment, best: Way | None) -> str:
    if not found.curve:
        return "What fine-tuning would bring cannot be told yet: there is nothing to teach."
    pairs, way = found.curve[-1]
    if way.low <= 0:
        return f"Fine-tuning on {pairs:,} pairs brings nothing that can be told from luck, {way}: collect more first."
    sentence = f"Fine-tuning on {pairs:,} pairs brings {way}"
    if best:
        sentence += ", more than that" if way.difference > best.difference else ", less than that"
    if len(found.curve) > 1:
        gained = way.difference - found.curve[-2][1].difference
        sentence += f"; the last doubling of the pairs brought {gained:+.3f}"
        sentence += ", so more clicks will bring more" if gained >= _WORTH else ", so more pairs bring little"
    return f"{sentence}."


def _duration(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 1):.0f} s"
