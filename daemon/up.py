"""
`relevanced up`: consumers, scheduler and search API together in one process, until a signal.

In:  the parts. Out: events stored, cycles run, searches answered. Each works in a thread of its own and stops at the
event `stop`; one that cannot go on (StopDaemon) stops them all, and its sentence is the process's last word.
"""

import threading
from collections.abc import Callable
from functools import partial

import structlog

from relevanced.consumers.decode import decode
from relevanced.daemon.console import say
from relevanced.daemon.consuming import consume_until_stopped, stop_on_signals
from relevanced.daemon.errors import Interrupted, RelevancedError
from relevanced.daemon.records import Cycle, Outcome, Step
from relevanced.daemon.scheduler import Scheduler
from relevanced.daemon.web.app import create_app
from relevanced.daemon.web.server import listen, serve
from relevanced.daemon.wiring import Parts, run_open_cycle

log = structlog.get_logger()


class Daemon:
    """The threads of one process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stop = stop_on_signals()
        self._failure: RelevancedError | None = None

    def run(self) -> None:
        """
        Serve until SIGINT or SIGTERM.

        Raises: what made a thread give up, for the cli to say.
        """
        parts, serving = self._parts, self._parts.settings.serving
        listener = listen(serving.host, serving.port)
        scheduler = Scheduler(parts.stages, parts.settings.schedule, parts.clock, self._run_cycle, self._stop)
        app = create_app(
            search=parts.search, database=parts.database, promotion=parts.promotion, sink=parts.sink, decode=decode
        )
        threads = [self._thread("scheduler", scheduler.run)]
        threads += [
            self._thread(source.name, partial(consume_until_stopped, source, parts.log_store, self._stop))
            for source in parts.sources()
        ]
        say(f"Searching at http://{serving.host}:{serving.port}/v1/search?q=..., described at /docs; Ctrl-C ends it.")
        try:
            serve(app, listener, self._stop)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except RelevancedError as error:
                log.error("thread ended", thread=name, reason=str(error))
                self._failure = error
                self._stop.set()

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        return thread

    def _run_cycle(self, cycle: Cycle) -> Cycle:
        return run_open_cycle(self._parts, cycle, self._progress, _tell)

    def _progress(self, label: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Interrupted(f"{label} stopped at {done} of {total}; the next start goes on.")


def _tell(step: Step, outcome: Outcome, seconds: float) -> None:
    log.info(outcome.sentence, step=step, verdict=outcome.verdict, seconds=round(seconds, 1))
