"""
POST /v1/traces: what OTLP/HTTP says an exporter is to be answered.

In:  the request of an OpenTelemetry exporter or collector. Out: UBI records in the intake, and the protocol's answer in
the encoding of the request: all spans taken, some rejected with the reason, or a Status that says whether to retry.

Source: OTLP specification 1.8, "OTLP/HTTP Response": 429, 502, 503 and 504 are retried, other errors are not.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import structlog
from fastapi import Request, Response
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT, UNAVAILABLE
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException

from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.ports import RecordSink
from relevanced.daemon.web.encodings import unpacked
from relevanced.daemon.web.problems import RETRY_AFTER

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"

log = structlog.get_logger(__name__)


class Traced(Protocol):
    """What a request brought: consumers.otlp.Traced."""

    @property
    def records(self) -> Sequence[dict[str, Any]]: ...

    @property
    def rejected(self) -> Sequence[str]: ...


ReadTraces = Callable[[bytes, bool], Traced]  # the body, and whether it is JSON; raises BadInput


async def answer_traces(
    request: Request,
    intake: RecordSink,
    read_traces: ReadTraces,
    in_thread: Callable[[Callable[[], Message]], Awaitable[Message]],
) -> Response:
    """Take the spans of a request; every answer, an error too, is a message in the encoding of the request."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = content_type == JSON
    try:
        if content_type not in (JSON, PROTOBUF):
            raise HTTPException(415, f"Send {PROTOBUF} or {JSON}.")
        body, encoding = await request.body(), request.headers.get("content-encoding", "")

        def work() -> Message:
            traced = read_traces(unpacked(body, encoding), as_json)
            intake.write(traced.records)
            return _response(traced.rejected)

        return _encoded(await in_thread(work), 200, as_json)
    except HTTPException as error:
        return _encoded(Status(code=INVALID_ARGUMENT, message=str(error.detail)), error.status_code, as_json)
    except BadInput as error:
        return _encoded(Status(code=INVALID_ARGUMENT, message=str(error)), 400, as_json)
    except Retry as error:
        log.warning("A request has to wait.", path=request.url.path, error=str(error))
        answer = _encoded(Status(code=UNAVAILABLE, message=str(error)), 503, as_json)
        answer.headers["Retry-After"] = str(RETRY_AFTER)
        return answer


def _response(rejected: Sequence[str]) -> ExportTraceServiceResponse:
    """An empty response says that all is well; a reason that many spans share is said once."""
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = len(rejected)
        reasons = [f"{count:,} spans: {reason}" for reason, count in Counter(rejected).most_common()]
        response.partial_success.error_message = " ".join(reasons)
    return response


def _encoded(message: Message, status: int, as_json: bool) -> Response:
    if as_json:
        return Response(MessageToJson(message), status, media_type=JSON)
    return Response(message.SerializeToString(), status, media_type=PROTOBUF)
