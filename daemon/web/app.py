"""
The HTTP API.

In:  the parts that wiring has built. Out: a FastAPI app; /docs describes it to people, /openapi.json to programs.
Endpoints that search or write are plain functions, so they run in the thread pool and never hold the event loop.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request, Response

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import RelevancedError
from relevanced.daemon.ports import RecordSink
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import SearchRequest
from relevanced.daemon.search import Search
from relevanced.daemon.web import schemas
from relevanced.daemon.web.event_body import JSON, LINES, read_records
from relevanced.daemon.web.problems import answer_problems, problem

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
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": schemas.Problem, "content": {"application/problem+json": {}}} for status in (400, 413, 422, 503)
}


async def _body(request: Request) -> bytes:
    return await request.body()


def create_app(
    *,
    search: Search,
    database: Database,
    promotion: Promotion,
    sink: RecordSink,
    decode: Callable[[bytes], object],
) -> FastAPI:
    """
    Build the app.

    Args:
        decode: reads one UBI record and raises DeadLetter for one that can never be used; consumers.decode.decode.
    """
    app = FastAPI(title="relevanced", summary="Search that learns from its own traffic.", responses=_PROBLEMS)
    answer_problems(app)

    @app.get("/v1/search", summary="Search by the live version")
    def search_by_url(q: schemas.Query, k: schemas.K = 10) -> schemas.SearchResult:
        return schemas.SearchResult.of(search.search([SearchRequest(q, k)])[0])

    @app.post("/v1/search", summary="Search by the live version, and say who asks")
    def search_by_body(body: schemas.SearchBody) -> schemas.SearchResult:
        return schemas.SearchResult.of(search.search([body.request()])[0])

    @app.post(
        "/v1/events",
        status_code=202,
        summary="Hand in UBI queries and events; 202 means that they are safe",
        openapi_extra={"requestBody": _RECORDS_BODY},
    )
    def take_events(request: Request, body: Annotated[bytes, Depends(_body)]) -> schemas.Accepted:
        records = read_records(body, request.headers.get("content-type", ""), decode)
        sink.write(records)
        return schemas.Accepted(accepted=len(records))

    @app.get("/v1/versions", summary="Every model version, and which is live")
    def versions() -> schemas.Versions:
        serving = promotion.serving()
        return schemas.Versions(
            live=serving.live_version_id,
            previous=serving.previous_version_id,
            versions=[
                schemas.ModelVersion(
                    version=version.version_id,
                    state=version.state,
                    created_at=version.created_at,
                    manifest=version.manifest,
                )
                for version in history.versions(database)
            ],
        )

    @app.get("/healthz", summary="The process lives")
    async def healthz() -> schemas.Alive:
        return schemas.Alive(lost_query_records=search.lost_records)

    @app.get("/readyz", summary="The live version can answer", response_model=schemas.Ready)
    def readyz() -> schemas.Ready | Response:
        try:
            return schemas.Ready(version=search.ready())
        except RelevancedError as error:
            return problem(503, str(error))

    return app
