"""
What a browser may bring here on behalf of a page that we do not know.

In:  requests. Out: the same requests, or a refusal. The web reaches a server on the loopback interface: any page may
name it in an image or a form, and a name that its owner points at 127.0.0.1 makes the page one of the same origin.

Source: Fetch Metadata Request Headers (W3C), for Sec-Fetch-Site.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relevanced.daemon.web.problems import problem

_HOST: Final = re.compile(r"(\[[^\]]+\]|[^:@/]+)(?::\d+)?")  # name or address, and port
_PUBLIC: Final = ("/v1/events", "/v1/relevanced.js")  # for pages of other sites, within what CORS allows them


class AllowPages:
    """
    ASGI middleware: pages of these origins may post events; for every other path no origin is allowed anything.

    Without credentials: a report needs no cookie, so none is asked for.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._allowing = CORSMiddleware(
            app, allow_origins=list(origins), allow_methods=["POST"], allow_headers=["content-type"], max_age=86_400
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a browser's question for events, and pass everything else on."""
        is_events = scope["type"] == "http" and scope["path"] == "/v1/events"
        await (self._allowing if is_events else self._app)(scope, receive, send)


class RefuseStrangers:
    """
    ASGI middleware: a request must call us by an address of this machine, `localhost` or one of `hosts`, and what a
    browser sends for a page of another site goes no further than the doors that are meant for pages.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with status 421 or 403."""
        refusal = self._refusal(scope["path"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        if not self._is_ours(headers.get("host", "localhost")):  # browsers always send it, health checks may not
            return problem(421, "This server has another name; [serving] allowed_hosts lists those it answers to.")
        is_private = path.startswith("/v1/") and path not in _PUBLIC
        if is_private and headers.get("sec-fetch-site") == "cross-site":
            return problem(403, f"{path} is not for pages of other sites.")
        return None

    def _is_ours(self, host: str) -> bool:
        parts = _HOST.fullmatch(host.lower())
        name = parts[1].strip("[]") if parts else ""
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False
