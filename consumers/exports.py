"""
Exports: what Langfuse and Phoenix have recorded of a RAG system, and files of UBI records.

In:  the objects of a file. Out: UBI records with the ids that the same spans would have by OTLP, and for each object
that cannot be used the reason; daemon.events_cli writes them to the sink.

Shapes: Langfuse's blob storage export (langfuse.com/docs, "Blob Storage Export Field Reference": observations_v2,
observations, scores) and the same fields in camel case from its API (langfuse 5.0, api/commons/types); Phoenix's REST
answers /v1/projects/…/spans and …/span_annotations (arize-phoenix-client 3.5, __generated__/v1: Span, SpanAnnotation,
SpanDocumentAnnotationData) and its data frames written with to_json(orient="records"), whose columns have dotted names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from relevanced.consumers.decode import decode
from relevanced.consumers.evaluations import Evaluation, evaluation_of, event_of
from relevanced.consumers.events import number
from relevanced.consumers.spans import (
    Retrieved,
    Span,
    SpanEvent,
    document_id,
    documents_in,
    iso,
    query_id,
    query_records,
    records_of,
    retrieved,
    words_of,
)
from relevanced.daemon.errors import DeadLetter

Format = Literal["ubi", "langfuse", "phoenix"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What annotations need to know of a Phoenix span."""

    trace_id: str
    started: datetime
    documents: Retrieved | None


def format_of(row: Row) -> Format | None:
    """Which format an object is in, by the fields that only this one has; None when it is none of them."""
    if "context" in row or "context.span_id" in row or "annotator_kind" in row or "document_position" in row:
        return "phoenix"
    if "action_name" in row or "user_query" in row or row.keys() & {"index", "create"}:
        return "ubi"
    of_trace = row.keys() & {"trace_id", "traceId", "session_id", "sessionId", "project_id", "projectId"}
    return "langfuse" if of_trace and row.keys() & {"type", "data_type", "dataType", "timestamp"} else None


class ExportReader:
    """
    Reads the objects of one or more files that belong together.

    Annotations of Phoenix name their span and not its trace, so they are held back until all spans have been seen.
    """

    def __init__(self) -> None:
        self._spans: dict[str, _Seen] = {}
        self._annotations: list[tuple[Any, Row]] = []

    def read(self, row: Row, kind: Format, place: Any) -> list[dict[str, Any]] | None:
        """
        Return the records of one object: an empty list when it tells nothing of a search, None when it is held back.

        Raises: DeadLetter when it cannot be used.
        """
        match kind:
            case "ubi":
                return _checked([] if row.keys() & {"index", "create"} and "query_id" not in row else [dict(row)])
            case "langfuse":
                return _checked(list(_langfuse(row)))
            case "phoenix" if "context" in row or "context.span_id" in row:
                return _checked(list(self._span(row)))
            case "phoenix":
                self._annotations.append((place, row))
                return None

    def held_back(self) -> Iterator[tuple[Any, list[dict[str, Any]] | DeadLetter]]:
        """Yield the places of all annotations with their records, or with the reason why there are none."""
        for place, row in self._annotations:
            try:
                yield place, _checked(list(self._annotation(row)))
            except DeadLetter as reason:
                yield place, reason

    def _span(self, row: Row) -> Iterator[dict[str, Any]]:
        flat = _flattened(row)
        attributes = {
            name.removeprefix("attributes."): value for name, value in flat.items() if name.startswith("attributes.")
        }
        kind = flat.get("span_kind")
        span = Span(
            trace_id=_required(flat, "context.trace_id"),
            span_id=_required(flat, "context.span_id"),
            started=_moment(flat.get("start_time")),
            ended=_moment(flat.get("end_time") or flat.get("start_time")),
            attributes={"openinference.span.kind": kind, **attributes} if kind else attributes,
            events=[
                SpanEvent(str(event.get("name")), _moment(event.get("timestamp")), event.get("attributes") or {})
                for event in row.get("events") or ()
                if isinstance(event, dict) and event.get("name") == "gen_ai.evaluation.result"
            ],
        )
        self._spans[span.span_id] = _Seen(span.trace_id, span.started, retrieved(span.attributes))
        return records_of(span)

    def _annotation(self, row: Row) -> Iterator[dict[str, Any]]:
        flat = _flattened(row)
        span_id = _required(flat, "span_id")
        seen = self._spans.get(span_id)
        if seen is None:
            raise DeadLetter("The annotation is about a span that is not in these files; name the spans' file too.")
        said = {
            "name": flat.get("name") or flat.get("annotation_name"),
            "label": flat.get("result.label", flat.get("label")),
            "score": flat.get("result.score", flat.get("score")),
        }
        at = _moment(flat["created_at"]) if flat.get("created_at") else seen.started
        evaluation = evaluation_of(said, query_id=query_id(seen.trace_id, span_id), timestamp=iso(at))
        if evaluation is None:
            return
        position = flat.get("document_position")
        if position is None:
            yield event_of(evaluation)
            return
        documents = seen.documents.document_ids if seen.documents else ()
        about = documents[position] if isinstance(position, int) and 0 <= position < len(documents) else None
        if about is None:
            raise DeadLetter("The annotation is about a document that has no id in its span.")
        yield event_of(evaluation.about(about))


def _langfuse(row: Row) -> Iterator[dict[str, Any]]:
    said = {_snake(name): value for name, value in row.items()}
    trace_id = said.get("trace_id")
    if "data_type" in said:
        yield from _score(said, trace_id)
    elif said.get("type") == "RETRIEVER":
        words = words_of(said.get("input"))
        if words is None:
            raise DeadLetter("The retriever's observation has no input, so nobody knows what was searched for.")
        documents = documents_in(said.get("output"))
        yield from query_records(
            query_id=query_id(str(trace_id), _required(said, "id")),
            user_query=words,
            at=iso(_moment(said.get("start_time"))),
            documents=None if documents is None else Retrieved([document_id(document) for document in documents]),
            who={"client_id": said.get("user_id"), "session_id": said.get("session_id")},
        )


def _score(said: Row, trace_id: str | None) -> Iterator[dict[str, Any]]:
    """A score of a trace or an observation; one of a session or of an experiment is about no search."""
    kind, value = said["data_type"], said.get("value")
    if not trace_id or kind not in ("NUMERIC", "BOOLEAN", "CATEGORICAL"):
        return
    label = said.get("string_value") or (value if isinstance(value, str) else None)
    yield event_of(
        Evaluation(
            query_id=query_id(trace_id, said.get("observation_id")),
            timestamp=iso(_moment(said.get("timestamp"))),
            name=_required(said, "name"),
            label=label if kind == "CATEGORICAL" else None,  # its number is only the place of the category in a list
            score=None if kind == "CATEGORICAL" else number(int(value) if isinstance(value, bool) else value),
        )
    )


def _checked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for record in records:
        decode(msgspec.json.encode(record))
    return records


def _flattened(row: Row) -> dict[str, Any]:
    """The object with dotted names, whether it came nested or not; lists of objects are numbered, from 0."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": part for inner, part in _flattened(value).items()}
        elif isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            flat |= {f"{name}.{inner}": part for inner, part in _flattened(dict(_numbered(value))).items()}
        else:
            flat[name] = value
    return flat


def _numbered(values: list[Any]) -> Iterator[tuple[str, Any]]:
    return ((str(place), value) for place, value in enumerate(values))


def _required(said: Row, name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise DeadLetter(f"The object has no {name}.")
    return value


def _moment(value: Any) -> datetime:
    """A moment as exports write it: ISO 8601, without a zone in UTC, or epoch milliseconds."""
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1000, UTC)
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        raise DeadLetter("The object has no time that can be read.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _snake(name: str) -> str:
    """traceId is trace_id."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
