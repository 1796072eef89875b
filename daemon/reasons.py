"""
Why a triplet is what it is.

In:  its row of TRIPLETS, the JUDGMENTS of its documents, the ClickModel. Out: a Reason, as fields for machines and as
sentences for people.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from relevanced.daemon.click_model import ClickModel

Judged = Mapping[str, Mapping[str, Any]]  # document_id -> its row of JUDGMENTS

_WORTH_SAYING = 0.01  # of a probability or of log odds; below it is nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentReason:
    """
    Why one document is the positive or a negative.

    kind: positive, skipped or near_miss. rank, score: in the live version's run; None outside it. grade and all that
    follows are None, 0 or empty for a document without a judgment, which nobody was shown.
    """

    document_id: str
    kind: str
    rank: int | None
    score: float | None
    grade: float | None
    prior: float | None
    pushed: float
    siblings: float  # what queries that differ in form alone add to the log odds
    shown: float
    clicks: float
    expected_clicks: float
    responses: list[dict[str, Any]]  # response, actors, lift
    places: list[dict[str, Any]]  # surface, after_click, position, propensity, shown, clicks

    def sentences(self, bar: float | None) -> Iterator[str]:
        """Say why it is what it is; `bar` is the score below which a near miss lies."""
        if self.kind == "near_miss" and self.score is not None and bar is not None:
            yield (
                f"Near miss: the live version ranks it {self.rank:,} with a score of {self.score:.3f},"
                f" below the {bar:.3f} that the margin leaves of the positive's."
            )
        elif self.kind == "skipped":
            yield "Examined and skipped."
        if self.kind != "near_miss" and self.score is not None:
            yield f"The live version ranks it {self.rank:,} with a score of {self.score:.3f}."
        elif self.score is None:
            yield "It is not in the live version's run."
        if self.grade is None or self.prior is None:
            yield "Nobody was shown it for this query, so it has no grade."
            return
        yield f"P(relevant) was {self.prior:.3f} by the models' rank alone, and is {self.grade:.3f} by what was done."
        yield (
            f"Shown to {_count(self.shown)} and chosen by {_count(self.clicks)};"
            f" a relevant document would have been chosen by {_count(self.expected_clicks)} at the same places."
            if self.shown
            else "It was not shown for this query."
        )
        if self.responses:
            done = (f"{one['response']} by {_count(one['actors'])} (lift {one['lift']:.3g})" for one in self.responses)
            yield f"What was done: {', '.join(done)}."
        if abs(self.siblings) >= _WORTH_SAYING:
            yield f"Queries that differ in form alone add {self.siblings:+.2f} to its log odds."
        if self.pushed >= _WORTH_SAYING:
            yield f"With probability {self.pushed:.2f} it is pushed: clicked more than anybody looks there."


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One triplet; user_query is None where too few people typed it."""

    triplet_id: str
    cycle_id: int
    user_query: str | None
    grade: float
    weight: float
    source: str
    near_miss_bar: float | None
    positive: DocumentReason
    negatives: list[DocumentReason]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it for JSON."""
        return asdict(self)


def reason_of(
    triplet: Mapping[str, Any], judged: Judged, model: ClickModel, cycle_id: int, user_query: str | None
) -> Reason:
    """
    Join what is known of a triplet and its documents.

    Args:
        triplet: row of TRIPLETS.
        user_query: None to leave it out.
    """
    own = {"kind": "positive", "rank": triplet["positive_rank"], "score": triplet["positive_score"]}
    negatives = zip(triplet["negative_ids"], triplet["negative_evidence"], strict=True)
    return Reason(
        triplet_id=triplet["triplet_id"],
        cycle_id=cycle_id,
        user_query=user_query,
        grade=triplet["grade"],
        weight=triplet["weight"],
        source=triplet["source"],
        near_miss_bar=triplet["near_miss_bar"],
        positive=_of_document(triplet["positive_id"], own, judged, model),
        negatives=[_of_document(name, why, judged, model) for name, why in negatives],
    )


def _of_document(document_id: str, why: Mapping[str, Any], judged: Judged, model: ClickModel) -> DocumentReason:
    row = judged.get(document_id, {})
    responses = [{**one, "lift": model.lift(one["response"])} for one in row.get("responses", ())]
    return DocumentReason(
        document_id=document_id,
        kind=why["kind"],
        rank=why["rank"],
        score=why["score"],
        grade=row.get("grade"),
        prior=row.get("prior"),
        pushed=row.get("pushed", 0.0),
        siblings=row.get("siblings", 0.0),
        shown=row.get("shown", 0.0),
        clicks=row.get("clicks", 0.0),
        expected_clicks=row.get("expected_clicks", 0.0),
        responses=sorted(responses, key=lambda one: (-one["actors"], one["response"])),
        places=sorted(row.get("places", ()), key=lambda one: (one["position"], one["surface"], one["after_click"])),
    )


def _count(actors: float) -> str:
    """Write actors, who are no whole numbers: what one says of a document is parted among the queries."""
    return f"{actors:,.0f}" if abs(actors - round(actors)) < _WORTH_SAYING else f"{actors:,.2f}"
