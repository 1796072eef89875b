"""
What the API says when it cannot do what was asked: a problem document for every error.

In:  exceptions of the endpoints and of the framework. Out: application/problem+json (RFC 9457).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relevanced.daemon.errors import BadInput, RelevancedError, Retry
from relevanced.daemon.search import NoLiveVersion
from relevanced.daemon.web.encodings import MAX_DOOR_BYTES

MAX_BODY_BYTES: Final = 1_000_000
RETRY_AFTER: Final = 5  # seconds; a Postgres that restarts needs about as long
_DOORS: Final = ("/v1/events", "/v1/traces")  # where records come in by the thousand

log = structlog.get_logger(__name__)


class BadRecords(BadInput):
    """Records that cannot be taken: `reasons` has each with its number from 1, and `accepted` counts the others."""

    def __init__(self, sentence: str, reasons: Sequence[Mapping[str, Any]] = (), *, accepted: int = 0) -> None:
        super().__init__(sentence)
        self.reasons, self.accepted = reasons, accepted


class LimitBody:
    """ASGI middleware: reading a request's body beyond the limit of its path raises status 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted as it is read."""
        taken, limit = 0, MAX_DOOR_BYTES if scope.get("path", "").startswith(_DOORS) else MAX_BODY_BYTES

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, f"The body is larger than {limit:,} bytes; send it in parts.")
            return message

        await self._app(scope, limited, send)


def problem(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
    **further: Any,
) -> JSONResponse:
    """One problem document; `errors` are its parts, when it has several, and `further` members of its own."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **further,
    }
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def answer_problems(app: FastAPI) -> None:
    """Let every error of the app be answered with a problem document."""
    app.add_middleware(LimitBody)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        details = {
            400: "The body cannot be read; send JSON in UTF-8.",
            404: f"There is nothing at {request.url.path}; /docs lists what there is.",
            405: f"{request.url.path} does not take {request.method}; /docs lists what there is.",
        }
        return problem(error.status_code, details.get(error.status_code, str(error.detail)), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without the values: they are what somebody typed.
        errors = [{"field": ".".join(map(str, part["loc"])), "reason": part["msg"]} for part in error.errors()]
        return problem(422, "Some fields cannot be used; `errors` says which and why.", errors=errors)

    @app.exception_handler(BadInput)
    async def bad_input(request: Request, error: BadInput) -> JSONResponse:
        return problem(400, str(error))

    @app.exception_handler(BadRecords)
    async def bad_records(request: Request, error: BadRecords) -> JSONResponse:
        return problem(400, str(error), errors=error.reasons, accepted=error.accepted)

    @app.exception_handler(NoLiveVersion)
    @app.exception_handler(Retry)
    async def later(request: Request, error: RelevancedError) -> JSONResponse:
        log.warning("A request has to wait.", path=request.url.path, error=str(error))
        return problem(503, str(error), headers={"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("A request failed.", path=request.url.path, error=str(error))
        return problem(500, "This went wrong on our side; the log of relevanced says why.")
