"""
Evaluations: what people and judges said about an answer, as UBI actions.

In:  the name, label and score of an OpenTelemetry evaluation, a Langfuse score or a Phoenix annotation.
Out: a UBI event; made for spans and exports, decoded like any other, read by feedback.

A thumb is `upvote` or `downvote`, a citation `cite`. Any other score is `rating:NAME` with its value, for its scale and
its good end are the judge's own: 1 is the best relevance and the worst toxicity. A label alone is `rating:NAME:LABEL`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from relevanced.consumers.events import MAX_ID, number

_UP: Final = frozenset({"up", "thumbs up", "upvote", "like", "liked", "positive", "good", "helpful", "yes", "👍"})
_DOWN: Final = frozenset(
    {"down", "thumbs down", "downvote", "dislike", "disliked", "negative", "bad", "unhelpful", "not helpful", "no"}
    | {"👎"}
)
_THUMBS: Final = frozenset({"thumb", "thumbs", "vote", "like", "feedback", "user feedback", "user score"})
_CITES: Final = frozenset({"cite", "cited", "citation", "citations"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One evaluation; `query_id` as spans.query_id makes it, `timestamp` in ISO 8601 with a zone."""

    query_id: str
    timestamp: str
    name: str
    label: str | None = None
    score: float | None = None
    document_id: str | None = None

    def about(self, document_id: str) -> "Evaluation":
        """The same, of one of the documents."""
        return replace(self, document_id=document_id)


def event_of(evaluation: Evaluation) -> dict[str, Any]:
    """One UBI event; its name is cut to what UBI takes, for a judge's name may be a sentence."""
    action = _action(_words(evaluation.name), _words(evaluation.label or ""), evaluation.score)
    attributes: dict[str, Any] = {}
    if evaluation.document_id is not None:
        attributes["object"] = {"object_id": evaluation.document_id}
    if evaluation.score is not None:
        attributes["rating"] = evaluation.score
    return {
        "action_name": action or _rating(evaluation)[:MAX_ID],
        "query_id": evaluation.query_id,
        "timestamp": evaluation.timestamp,
        "event_attributes": attributes,
    }


def evaluation_of(found: Mapping[str, Any], *, query_id: str, timestamp: str, prefix: str = "") -> Evaluation | None:
    """The evaluation under PREFIXname, PREFIXlabel and PREFIXscore, or None when it says nothing."""
    name, label, score = found.get(f"{prefix}name"), found.get(f"{prefix}label"), number(found.get(f"{prefix}score"))
    if not isinstance(name, str) or not name or (score is None and not label):
        return None
    return Evaluation(
        query_id=query_id,
        timestamp=timestamp,
        name=name,
        label=label if isinstance(label, str) else None,
        score=score,
    )


def _action(name: str, label: str, score: float | None) -> str | None:
    if name in _CITES and label not in _DOWN and score != 0:
        return "cite"
    if name not in _THUMBS and "thumb" not in label:
        return None
    if label in _UP or (not label and score is not None and score > 0):
        return "upvote"
    if label in _DOWN or (not label and score is not None and score <= 0):
        return "downvote"
    return None


def _rating(evaluation: Evaluation) -> str:
    label = f":{evaluation.label}" if evaluation.score is None else ""
    return f"rating:{evaluation.name}{label}"


def _words(name: str) -> str:
    """thumbs_up, Thumbs-Up and thumbs up are one name."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())
