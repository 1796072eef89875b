"""
`relevanced up`: consumers, scheduler and search API together in one process, until a signal; or the doors alone.

In:  the parts. Out: events stored, cycles run, searches answered. Each works in a thread of its own and stops at the
event `stop`. A consumer that cannot go on ends alone, for no producer may take the search away: /healthz says so. The
rest stop together, and the sentence of who could not go on is the process's last word.
"""

from collections.abc import Callable
from functools import partial

import structlog

from relevanced.consumers.decode import decode
from relevanced.consumers.otlp import read_traces
from relevanced.daemon.console import say
from relevanced.daemon.consuming import consume_until_stopped, stop_on_signals
from relevanced.daemon.errors import Interrupted, StopDaemon
from relevanced.daemon.ports import EventSource
from relevanced.daemon.records import Cycle, Outcome, Step
from relevanced.daemon.scheduler import Scheduler
from relevanced.daemon.threads import Threads
from relevanced.daemon.web.app import create_app
from relevanced.daemon.web.collector import create_collector
from relevanced.daemon.web.doors import Doors
from relevanced.daemon.web.server import listen, serve
from relevanced.daemon.wiring import Parts, run_open_cycle

log = structlog.get_logger()


class Daemon:
    """The threads of one process."""

    def __init__(self, parts: Parts, *, search_only: bool = False) -> None:
        """Take the parts; `search_only` leaves the consumers and the scheduler to another process."""
        self._parts, self._search_only = parts, search_only
        self._stop = stop_on_signals()

    def run(self) -> None:
        """
        Serve until SIGINT or SIGTERM.

        Raises: what made a thread give up, for the cli to say.
        """
        parts, serving = self._parts, self._parts.settings.serving
        listener = listen(serving.host, serving.port)
        threads, halted = Threads(self._stop), dict[str, str]()
        app = create_app(
            search=parts.search,
            database=parts.database,
            promotion=parts.promotion,
            doors=_doors(parts),
            halted_consumers=halted,
        )
        try:
            threads.start("heartbeat", partial(parts.replica.keep_beating, self._stop))
            threads.start("loading", partial(parts.replica.keep_loading, self._stop))
            if not self._search_only:
                self._start_learning(threads, halted)
            address = f"http://{serving.host}:{serving.port}"
            say(f"Searching at {address}/v1/search?q=..., described at {address}/docs; Ctrl-C ends it.")
            serve(app, listener, self._stop)
        finally:
            self._stop.set()
            threads.join()

    def _start_learning(self, threads: Threads, halted: dict[str, str]) -> None:
        parts = self._parts
        scheduler = Scheduler(parts.stages, parts.settings.schedule, parts.clock, self._run_cycle, threads)
        threads.start("scheduler", scheduler.run)
        for name, open_source in parts.source_openers().items():
            threads.start(name, partial(self._consume, name, open_source, halted))

    def _consume(self, name: str, open_source: Callable[[], EventSource], halted: dict[str, str]) -> None:
        try:
            consume_until_stopped(open_source, self._parts.log_store, self._stop, self._parts.settings.ingest)
        except StopDaemon as error:
            halted[name] = str(error)
            log.error("A consumer has stopped; the rest goes on.", source=name, reason=str(error))

    def _run_cycle(self, cycle: Cycle) -> Cycle:
        return run_open_cycle(self._parts, cycle, self._progress, _tell)

    def _progress(self, label: str, done: int, total: int, detail: str = "") -> None:
        if self._stop.is_set():
            raise Interrupted(f"{label} stopped at {done} of {total}; the next start goes on.")


def collect(parts: Parts) -> None:
    """Serve the doors alone until SIGINT or SIGTERM; Postgres is not asked."""
    stop, serving = stop_on_signals(), parts.settings.serving
    listener = listen(serving.host, serving.port)
    say(f"Taking events at http://{serving.host}:{serving.port}/v1/events; Ctrl-C ends it.")
    serve(create_collector(_doors(parts)), listener, stop)


def _doors(parts: Parts) -> Doors:
    return Doors(
        intake=parts.intake,
        decode=decode,
        read_traces=read_traces,
        allowed_origins=parts.settings.intake.allowed_origins,
        allowed_hosts=parts.settings.serving.allowed_hosts,
    )


def _tell(step: Step, outcome: Outcome, seconds: float) -> None:
    log.info(outcome.sentence, step=step, verdict=outcome.verdict, seconds=round(seconds, 1))
