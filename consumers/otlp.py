"""
OTLP: the spans of one export request, whichever form the exporter chose.

In:  the body of POST /v1/traces, protobuf or JSON. Out: the UBI records of its spans, for the intake.

Source: OTLP specification 1.8 (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"); in its JSON, ids are hexadecimal where
protobuf's own mapping would have base64, and fields that a receiver does not know are passed over.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from relevanced.consumers.decode import decode
from relevanced.consumers.spans import Span, SpanEvent, records_of
from relevanced.daemon.errors import BadInput, DeadLetter

MAX_SPANS: Final = 20_000  # of one request; exporters send some hundreds
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_FIELDS: Final = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
_NO_NAME: Final = "unknown_service"  # what an SDK says when nobody named the service


@dataclass(frozen=True, slots=True)
class Traced:
    """What a request brought: records that can be used, and for each retrieval that cannot, why."""

    records: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


def read_traces(body: bytes, as_json: bool) -> Traced:
    """
    Read the searches, impressions and evaluations of a request; other spans are passed over.

    Raises: BadInput when the body is no ExportTraceServiceRequest.
    """
    traced = Traced()
    for span in spans_in(body, as_json=as_json):
        try:
            records = list(records_of(span))
            for record in records:
                decode(msgspec.json.encode(record))
            traced.records.extend(records)
        except DeadLetter as reason:
            traced.rejected.append(str(reason))
    return traced


def spans_in(body: bytes, *, as_json: bool) -> list[Span]:
    """
    Read all spans of a request.

    Raises: BadInput when the body is no ExportTraceServiceRequest.
    """
    request = ExportTraceServiceRequest()
    try:
        if as_json:
            ParseDict(_with_base64_ids(msgspec.json.decode(body)), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ParseError, DecodeError, ValueError, TypeError) as error:
        raise BadInput(
            f"The body is no OTLP export request in {'JSON' if as_json else 'protobuf'}: {type(error).__name__}."
        ) from None
    spans = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    if spans > MAX_SPANS:  # a packed body of a few kB may hold millions of empty ones
        raise BadInput(f"The request has {spans:,} spans, and {MAX_SPANS:,} are the most; export smaller batches.")
    return list(_spans(request))


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        service = _attributes(resource_spans.resource.attributes).get("service.name")
        named = isinstance(service, str) and service and not service.startswith(_NO_NAME)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, str(service) if named else None)


def _span(span: trace_pb2.Span, application: str | None) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        started=_moment(span.start_time_unix_nano),
        ended=_moment(span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        events=[
            SpanEvent(event.name, _moment(event.time_unix_nano), _attributes(event.attributes)) for event in span.events
        ],
        application=application,
    )


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_value(part) for part in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case kind:
            return getattr(value, kind)


def _with_base64_ids(value: Any) -> Any:
    """The same JSON with its ids as protobuf's own mapping has them."""
    if isinstance(value, list):
        return [_with_base64_ids(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: b64encode(bytes.fromhex(part)).decode()
        if name in _ID_FIELDS and isinstance(part, str)
        else _with_base64_ids(part)
        for name, part in value.items()
    }
