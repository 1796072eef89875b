"""
A client that never waits: an application reports searches and clicks, and goes on.

In:  calls of the application. Out: records posted to /v1/events by a thread of its own; read there like any others.

The queue is bounded, and what does not fit is dropped and counted: telling us must never harm the one who tells. While
the server is away the thread backs off and keeps what it has. It needs nothing but the standard library.
"""

import atexit
import http.client
import json
import logging
import os
import random
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import uuid4

MAX_BATCH: Final = 500  # records in a request; some 500 kB at most in practice, far below what the server takes
ANSWER_SECONDS: Final = 10.0  # a server that is silent for longer does not answer
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0  # the server is asked about as often as it says itself when it is full

_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that waiting may mend

_logger: Final = logging.getLogger(__name__)


class Client:
    """
    Reports to one server; safe to share between threads, and usable again in a process that was forked.

    `dropped` counts records that found the queue full, or that were still there when `close` gave up; `refused` counts
    those that the server cannot use.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8765", *, application: str | None = None, limit: int = 10_000
    ) -> None:
        """`limit` is the number of records that wait at most."""
        self._door = f"{url.rstrip('/')}/v1/events"
        self._application = application
        self._limit = limit
        self.dropped = self.refused = 0
        self._begin_anew()
        atexit.register(self.close)

    def search(
        self, user_query: str, document_ids: Sequence[str] | None = None, *, query_id: str | None = None, **further: Any
    ) -> str:
        """
        Report a search and the documents that were shown, the first at position 1; return its query_id.

        `further` are fields of a UBI query, such as client_id, session_id or query_attributes.
        """
        query_id = query_id or str(uuid4())
        shown = {} if document_ids is None else {"query_response_hit_ids": list(document_ids)}
        self._put({"query_id": query_id, "user_query": user_query, **shown, **further})
        return query_id

    def click(self, query_id: str, document_id: str, position: int | None = None, **further: Any) -> None:
        """Report that a document was chosen; positions count from 1."""
        self.report("click", query_id, document_id, position, **further)

    def report(
        self,
        action_name: str,
        query_id: str,
        document_id: str | None = None,
        position: int | None = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        **further: Any,
    ) -> None:
        """Report anything else that was done with an answer: purchase, upvote, downvote, cite and so on."""
        about: dict[str, Any] = dict(attributes or {})
        if document_id is not None:
            about["object"] = {"object_id": document_id}
        if position is not None:
            about["position"] = {"ordinal": position}
        self._put({"action_name": action_name, "query_id": query_id, "event_attributes": about, **further})

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits, for so long at most; the end of the program does it too."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            thread = self._thread if self._owner == os.getpid() else None
        if thread is not None:
            thread.join(seconds)
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._gave_up = True
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_anew(self) -> None:
        """Nothing of a thread comes along when a process is forked, and its records are the parent's to send."""
        self._owner = os.getpid()
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = self._gave_up = False

    def _put(self, record: dict[str, Any]) -> None:
        if self._owner != os.getpid():
            self._begin_anew()
        told = {"application": self._application} if self._application else {}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"timestamp": now, **told, **record}, default=str).encode()
        with self._changed:
            if self._is_closing or len(self._waiting) >= self._limit:
                self.dropped += 1
                return
            self._waiting.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="relevanced client", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _send_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while batch := self._next_batch():
            wait = self._send(batch)
            if wait is None:
                pause = FIRST_PAUSE_SECONDS
                with self._changed:
                    for _ in range(min(len(batch), len(self._waiting))):
                        self._waiting.popleft()
                continue
            with self._changed:
                # Spread, so that many clients do not come back to a recovering server at once.
                self._wait(max(wait, pause * random.uniform(0.5, 1.0)))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Pause, but not once the client is closing: then the last attempts are made at short intervals."""
        if self._is_closing:
            seconds = min(seconds, FIRST_PAUSE_SECONDS)
        self._changed.wait_for(lambda: self._gave_up or (self._is_closing and seconds > FIRST_PAUSE_SECONDS), seconds)

    def _next_batch(self) -> list[bytes]:
        """The records to send next, which stay in the queue until they are safe; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            return (
                [] if self._gave_up else [self._waiting[place] for place in range(min(MAX_BATCH, len(self._waiting)))]
            )

    def _send(self, lines: Sequence[bytes]) -> float | None:
        """Post a batch; return None when it is done with, else the seconds to wait before it is tried again."""
        request = urllib.request.Request(  # noqa: S310 - the operator's own URL
            self._door, b"\n".join(lines), {"Content-Type": "application/x-ndjson"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=ANSWER_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _LATER:
                    return _seconds(error.headers.get("Retry-After"))
                self._note_refused(lines, error)
                return None
        except (OSError, http.client.HTTPException):  # URLError and timeouts among them, and what is no HTTP
            return 0.0

    def _note_refused(self, lines: Sequence[bytes], error: urllib.error.HTTPError) -> None:
        try:
            problem = json.loads(error.read())
            refused, reason = len(lines) - int(problem.get("accepted") or 0), str(problem.get("detail", ""))
        except (ValueError, OSError, AttributeError, TypeError, http.client.HTTPException):
            refused, reason = len(lines), error.reason
        self.refused += refused
        _logger.warning("relevanced refused %d records: %s", refused, reason)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect to a login page would be followed by GET, answered with 200, and taken for a receipt."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:  # a date
        return FIRST_PAUSE_SECONDS
