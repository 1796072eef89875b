"""
Spans of retrieval: what a RAG system traces anyway, as searches, impressions and feedback.

In:  finished spans, given by otlp and exports. Out: UBI records with ids that a second delivery gives again.

A retrieval span becomes a query record. Its documents are the hit list; where some have no id, those that have one
become impression events, which carry their position. Evaluations on any span become feedback under the query_id of that
span; its first 32 characters are the trace, by which an evaluation of the answer finds the retrievals behind it.

Source: OpenTelemetry semantic conventions for generative AI 1.42 (docs/gen-ai: gen-ai-spans.md, gen-ai-events.md and
gen-ai-retrieval-documents.json), and OpenInference semantic conventions 0.1.42 (package openinference.semconv.trace).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from relevanced.consumers.evaluations import evaluation_of, event_of
from relevanced.daemon.errors import DeadLetter

_ID_KEYS: Final = ("id", "document_id", "doc_id", "_id")
_LIST_KEYS: Final = ("documents", "results", "nodes")
_QUERY_KEYS: Final = ("query", "query_str", "question", "user_query", "input", "text")
_OWN_EVALUATIONS: Final = (("annotations", "annotation."), ("evaluations", "evaluation."))
_OF_THE_TRACE: Final = (("trace.annotations", "annotation."), ("trace.evaluations", "evaluation."))
_PLACE: Final = re.compile(r"(\d+)\.(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something noted on a span."""

    name: str
    at: datetime
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One finished span; ids in hexadecimal, attributes under their dotted names."""

    trace_id: str
    span_id: str
    started: datetime
    ended: datetime
    attributes: Mapping[str, Any]
    events: Sequence[SpanEvent] = ()
    application: str | None = None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The documents of one retrieval in order; None stands for one that has no id."""

    document_ids: Sequence[str | None] = field(default_factory=list)

    @property
    def all_have_ids(self) -> bool:
        return None not in self.document_ids


def query_id(trace_id: str, span_id: str | None) -> str:
    """The query_id of a span, or of the whole trace."""
    return f"{trace_id}-{span_id}" if span_id else trace_id


def is_retrieval(attributes: Mapping[str, Any]) -> bool:
    """Whether a span says of itself that it retrieved documents."""
    return (
        attributes.get("gen_ai.operation.name") == "retrieval"
        or "gen_ai.retrieval.documents" in attributes
        or str(attributes.get("openinference.span.kind")).upper() == "RETRIEVER"
    )


def records_of(span: Span) -> Iterator[dict[str, Any]]:
    """
    Yield the UBI records of a span: none for a span that neither retrieves nor is evaluated.

    Raises: DeadLetter when it is a retrieval and does not say what was searched for.
    """
    if is_retrieval(span.attributes):
        yield from _searched(span)
    yield from _evaluated(span)


def retrieved(attributes: Mapping[str, Any]) -> Retrieved | None:
    """The documents of a retrieval span, or None when it does not tell them."""
    if (told := documents_in(attributes.get("gen_ai.retrieval.documents"))) is not None:
        return Retrieved([document_id(document) for document in told])
    documents = [
        {name.removeprefix("document."): value for name, value in document.items()}
        for document in listed(attributes, "retrieval.documents")
    ]
    returned = documents_in(attributes.get("output.value"))
    if not documents and returned is None:
        return None
    ids = [document_id(document) for document in documents]
    # Some instrumentors (LangChain's) leave document.id out, and show the whole documents in output.value.
    if returned is not None and (not documents or (None in ids and len(ids) == len(returned))):
        ids = [document_id(document) for document in returned]
    return Retrieved(ids)


def document_id(document: Mapping[str, Any]) -> str | None:
    """The id of a document, its own or that in its metadata."""
    for place in (document, _json(document.get("metadata"))):
        for key in _ID_KEYS if isinstance(place, dict) else ():
            if (value := place.get(key)) not in (None, "") and isinstance(value, (str, int)):
                return str(value)
    return None


def documents_in(output: Any) -> list[dict[str, Any]] | None:
    """The documents of what a retriever returned: a list of them, or an object that holds one; else None."""
    found = _json(output)
    if isinstance(found, dict):
        found = next((found[key] for key in _LIST_KEYS if isinstance(found.get(key), list)), None)
    if not isinstance(found, list) or not all(isinstance(document, dict) for document in found):
        return None
    # LlamaIndex wraps each node with its score.
    return [document["node"] if isinstance(document.get("node"), dict) else document for document in found]


def words_of(value: Any) -> str | None:
    """What was searched for: the text as it is, or the field of a JSON object that holds it."""
    found = _json(value)
    if isinstance(found, dict):  # the arguments of a traced function may lie one level deeper
        arguments, by_name = found.get("args"), found.get("kwargs")
        places = [found, by_name if isinstance(by_name, dict) else {}]
        named = [place[key] for place in places for key in _QUERY_KEYS if isinstance(place.get(key), str)]
        unnamed = [part for part in arguments if isinstance(part, str)] if isinstance(arguments, list) else []
        return next(filter(None, named + unnamed), None)
    if isinstance(found, str):
        return found
    return value if isinstance(value, str) and value else None


def listed(attributes: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The objects that OpenInference flattens to PREFIX.0.name, PREFIX.1.name and so on, in order."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(f"{prefix}.") and (place := _PLACE.fullmatch(name[len(prefix) + 1 :])):
            found.setdefault(int(place[1]), {})[place[2]] = value
    return [found[place] for place in sorted(found)]


def query_records(
    *, query_id: str, user_query: str, at: str, documents: Retrieved | None, who: Mapping[str, str | None]
) -> Iterator[dict[str, Any]]:
    """Yield the query record of one retrieval, and an impression event for each document if some have no id."""
    told = {name: value for name, value in who.items() if value}
    record: dict[str, Any] = {"query_id": query_id, "user_query": user_query, "timestamp": at, **told}
    if documents is not None and documents.all_have_ids:
        yield {**record, "query_response_hit_ids": list(documents.document_ids)}
        return
    yield record
    for ordinal, document in enumerate(documents.document_ids if documents else (), start=1):
        if document is not None:
            yield {
                "action_name": "impression",
                "query_id": query_id,
                "timestamp": at,
                **told,
                "event_attributes": {"object": {"object_id": document}, "position": {"ordinal": ordinal}},
            }


def iso(moment: datetime) -> str:
    """The moment as UBI writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _searched(span: Span) -> Iterator[dict[str, Any]]:
    attributes = span.attributes
    words = words_of(attributes.get("gen_ai.retrieval.query.text")) or words_of(attributes.get("input.value"))
    if words is None:
        raise DeadLetter(
            "A retrieval span has no query text: let the instrumentation record content"
            " (gen_ai.retrieval.query.text or input.value)."
        )
    return query_records(
        query_id=query_id(span.trace_id, span.span_id),
        user_query=words,
        at=iso(span.started),
        documents=retrieved(attributes),
        who={
            "client_id": _text(attributes.get("user.id")),
            "session_id": _text(attributes.get("session.id") or attributes.get("gen_ai.conversation.id")),
            "application": span.application,
        },
    )


def _evaluated(span: Span) -> Iterator[dict[str, Any]]:
    own = query_id(span.trace_id, span.span_id)
    for event in span.events:
        if event.name == "gen_ai.evaluation.result":
            said = {
                "name": event.attributes.get("gen_ai.evaluation.name"),
                "label": event.attributes.get("gen_ai.evaluation.score.label"),
                "score": event.attributes.get("gen_ai.evaluation.score.value"),
            }
            if evaluation := evaluation_of(said, query_id=own, timestamp=iso(event.at)):
                yield event_of(evaluation)
    for lists, about in ((_OWN_EVALUATIONS, own), (_OF_THE_TRACE, span.trace_id)):
        for name, prefix in lists:
            for said in listed(span.attributes, name):
                if evaluation := evaluation_of(said, query_id=about, timestamp=iso(span.ended), prefix=prefix):
                    yield event_of(evaluation)


def _json(value: Any) -> Any:
    """A JSON text as what it says, and anything else as it is; None for a text that is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and value != "" else None
