"""
Consumers at work: one thread for each source, until `stop`; or one source after the other until nothing is left.

In:  event sources, the log store. Out: rows in the log store.
"""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from relevanced.consumers.dead_letters import BadShare, IngestPolicy
from relevanced.consumers.loop import DEFAULTS, LONGEST_PAUSE_SECONDS, run, step
from relevanced.daemon.errors import Retry
from relevanced.daemon.ports import EventLog, EventSource
from relevanced.daemon.records import Outcome
from relevanced.daemon.threads import Threads

PATIENCE_SECONDS: Final = 60  # a broker that is silent for longer is gone

_logger: Final = structlog.get_logger(__name__)


def consume_until_stopped(
    open_source: Callable[[], EventSource], log: EventLog, stop: threading.Event, policy: IngestPolicy = DEFAULTS
) -> None:
    """
    Open the source, as soon as it lets itself be opened, take from it until `stop` is set, and close it.

    Raises: StopDaemon and BadInput, which waiting does not mend.
    """
    while not stop.is_set():
        try:
            source = open_source()
        except Retry as error:
            _logger.warning("Waiting for a source.", reason=str(error), seconds=LONGEST_PAUSE_SECONDS)
            stop.wait(LONGEST_PAUSE_SECONDS)
            continue
        try:
            run(source, log, stop, policy)
        finally:
            source.close()


def consume_until_empty(source: EventSource, log: EventLog, policy: IngestPolicy = DEFAULTS) -> Outcome:
    """Take from the source until a poll brings nothing."""
    stored = dead_letters = 0
    bad_share = BadShare(source.name, policy)
    source.seek(log.offsets(source.name))
    while (outcome := step(source, log, bad_share)).verdict != "nothing":
        stored += outcome.numbers["stored"]
        dead_letters += outcome.numbers["dead_letters"]
    sentence = f"Stored {stored:,} records from {source.name}, set {dead_letters:,} aside."
    return Outcome(sentence, {"stored": stored, "dead_letters": dead_letters})


def consume_records(source: EventSource, log: EventLog, count: int) -> None:
    """
    Take from the source until at least so many records are in the log store.

    Raises: Retry when nothing has come for PATIENCE_SECONDS.
    """
    last_came = time.monotonic()
    while count > 0:
        try:
            outcome = step(source, log)
        except Retry:  # another writer's commit came first, or the broker is away
            if time.monotonic() - last_came > PATIENCE_SECONDS:
                raise
            source.seek(log.offsets(source.name))
            continue
        if outcome.verdict != "nothing":
            count -= outcome.numbers["stored"] + outcome.numbers["dead_letters"]
            last_came = time.monotonic()
        elif time.monotonic() - last_came > PATIENCE_SECONDS:
            raise Retry(
                f"{count:,} records that were handed in have not come out of {source.name}; is its broker alive?"
            )


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def consume_all(
    openers: Mapping[str, Callable[[], EventSource]],
    log: EventLog,
    stop: threading.Event,
    policy: IngestPolicy = DEFAULTS,
) -> None:
    """Take from all sources at once until `stop` is set."""
    threads = Threads(stop)
    for name, open_source in openers.items():
        threads.start(name, partial(consume_until_stopped, open_source, log, stop, policy))
    threads.join()
