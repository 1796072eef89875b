"""
Threads that end together.

In:  work for each, and the event `stop`. Out: at the end, what made the first of them give up.
One thread that cannot go on stops the others: a daemon of which half works looks well from outside.
"""

import threading
from collections.abc import Callable

import structlog

from relevanced.daemon.errors import RelevancedError, StopDaemon

log = structlog.get_logger()


class Threads:
    """The threads of one process beside its main one."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self._threads: list[threading.Thread] = []
        self._failure: RelevancedError | None = None

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Begin a thread; whatever comes out of its work stops all."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - no failure of a thread may be silent
                self.fail(name, error)

        thread = threading.Thread(target=guarded, name=name)
        self._threads.append(thread)
        thread.start()

    def fail(self, name: str, error: Exception) -> None:
        """Note what cannot be gone on with, and stop all; an error without a sentence of ours gets one."""
        if not isinstance(error, RelevancedError):
            failure = StopDaemon(f"The {name} met an unexpected {type(error).__name__}; `--debug` shows where.")
            failure.__cause__ = error
            error = failure
        log.error("thread ended", thread=name, reason=str(error))
        self._failure = self._failure or error
        self.stop.set()

    def join(self) -> None:
        """
        Wait for all of them.

        Raises: what made the first give up.
        """
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
