"""
The doors: where events come in over HTTP. They need a disk, and neither Postgres nor a model.

In:  requests. Out: records in the intake, and an answer once they are safe. app serves them beside the search, and
collector serves them alone. Their threads are their own: searches that wait for Postgres may hold all of the server's.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from relevanced.daemon.ports import RecordSink
from relevanced.daemon.web import schemas
from relevanced.daemon.web.bulk import bulk_answer
from relevanced.daemon.web.encodings import unpacked
from relevanced.daemon.web.event_body import JSON, LINES, Decode, read_entries
from relevanced.daemon.web.problems import BadRecords
from relevanced.daemon.web.traces import ReadTraces, answer_traces
from relevanced.daemon.web.visitors import AllowPages, RefuseStrangers

THREADS: Final = 16  # that wait for the disk together; more would share the same fsync

_EVENT: Final = {
    "action_name": "click",
    "query_id": "7f0c1b1e-4f0e-4a53-9d2e-0a8f5c1f9b6a",
    "session_id": "s-81",
    "timestamp": "2026-01-31T09:12:45.120Z",
    "event_attributes": {"object": {"object_id": "HP:0002094"}, "position": {"ordinal": 1}},
}
_RECORDS_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {JSON: {"example": [_EVENT]}} | {lines: {"schema": {"type": "string"}} for lines in LINES},
}
_SPANS_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
        JSON: {"schema": {"type": "object", "description": "ExportTraceServiceRequest in OTLP's JSON."}},
    },
}
_SNIPPET: Final = files("relevanced.daemon.web").joinpath("relevanced.js")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Doors:
    """
    The parts behind the doors.

    `decode` reads one UBI record and raises DeadLetter for one that can never be used (consumers.decode.decode);
    `read_traces` reads an OTLP request (consumers.otlp.read_traces); pages of `allowed_origins` may report from a
    browser, beside those of the server's own origin; `allowed_hosts` are the server's names beside localhost.
    """

    intake: RecordSink
    decode: Decode
    read_traces: ReadTraces
    allowed_origins: Sequence[str] = ()
    allowed_hosts: Sequence[str] = ()


def open_doors(app: FastAPI, doors: Doors) -> None:
    """Add the doors to an app, and who watches over all that comes through them or elsewhere."""
    app.include_router(_router(doors))
    if doors.allowed_origins:
        app.add_middleware(AllowPages, origins=doors.allowed_origins)
    app.add_middleware(RefuseStrangers, hosts=doors.allowed_hosts)


def _router(doors: Doors) -> APIRouter:
    router, threads = APIRouter(), ThreadPoolExecutor(THREADS, thread_name_prefix="door")

    async def in_thread(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    @router.post(
        "/v1/events",
        status_code=202,
        response_model=schemas.Accepted,
        summary="Hand in UBI queries and events; 202 means that they are safe",
        openapi_extra={"requestBody": _RECORDS_BODY},
    )
    @router.post("/v1/events/_bulk", include_in_schema=False)
    @router.post("/v1/events/{index}/_bulk", include_in_schema=False)
    async def take_events(request: Request, index: str | None = None) -> Response:
        body, headers = await request.body(), request.headers

        def work() -> Response:
            began = time.monotonic()
            text = unpacked(body, headers.get("content-encoding", ""))
            entries = read_entries(text, headers.get("content-type", ""), doors.decode)
            records = [entry.record for entry in entries if entry.record is not None]
            doors.intake.write(records)
            if entries[0].action is not None:
                return JSONResponse(bulk_answer(entries, index, int(1000 * (time.monotonic() - began))))
            errors = [
                {"record": number, "reason": entry.reason}
                for number, entry in enumerate(entries, start=1)
                if entry.reason is not None
            ]
            if errors:
                raise BadRecords(
                    f"{len(errors):,} of {len(entries):,} records cannot be used, and `errors` says why;"
                    f" the other {len(records):,} are safe.",
                    errors,
                    accepted=len(records),
                )
            return JSONResponse({"accepted": len(records)}, 202)

        return await in_thread(work)

    @router.post(
        "/v1/traces",
        summary="Hand in OpenTelemetry spans (OTLP/HTTP); retrievals and evaluations are kept",
        openapi_extra={"requestBody": _SPANS_BODY},
    )
    async def take_traces(request: Request) -> Response:
        return await answer_traces(request, doors.intake, doors.read_traces, in_thread)

    @router.get("/v1/relevanced.js", summary="The script that reports clicks from a page", response_class=Response)
    async def snippet() -> Response:
        return Response(
            _SNIPPET.read_bytes(), media_type="text/javascript", headers={"Cache-Control": "public, max-age=3600"}
        )

    return router
