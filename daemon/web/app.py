"""
The HTTP API.

In:  the parts that wiring has built. Out: a FastAPI app; /docs describes it to people, /openapi.json to programs.
Endpoints that search or write are plain functions, so they run in the thread pool and never hold the event loop.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Response

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import RelevancedError
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import SearchRequest
from relevanced.daemon.search import Search
from relevanced.daemon.web import schemas
from relevanced.daemon.web.doors import Doors, open_doors
from relevanced.daemon.web.problems import answer_problems, problem

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": schemas.Problem, "content": {"application/problem+json": {}}} for status in (400, 413, 422, 503)
}


def create_app(
    *,
    search: Search,
    database: Database,
    promotion: Promotion,
    doors: Doors,
    halted_consumers: Mapping[str, str],
) -> FastAPI:
    """
    Build the app.

    Args:
        halted_consumers: by the source's name, why its consumer has stopped; it is looked at with each question.
    """
    app = FastAPI(title="relevanced", summary="Search that learns from its own traffic.", responses=PROBLEMS)
    answer_problems(app)
    open_doors(app, doors)

    @app.get("/v1/search", summary="Search by the live version")
    def search_by_url(q: schemas.Query, k: schemas.K = 10, device: schemas.Device = None) -> schemas.SearchResult:
        return schemas.SearchResult.of(search.search([SearchRequest(q, k, device=device)])[0])

    @app.post("/v1/search", summary="Search by the live version, and say who asks")
    def search_by_body(body: schemas.SearchBody) -> schemas.SearchResult:
        return schemas.SearchResult.of(search.search([body.request()])[0])

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
        return schemas.Alive(lost_query_records=search.lost_records, halted_consumers=dict(halted_consumers))

    @app.get("/readyz", summary="The live version can answer", response_model=schemas.Ready)
    def readyz() -> schemas.Ready | Response:
        try:
            return schemas.Ready(version=search.ready())
        except RelevancedError as error:
            return problem(503, str(error))

    return app
