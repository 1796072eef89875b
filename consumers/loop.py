"""
The loop: from a source to the log store, batch by batch.

In:  an EventSource and the log store. Out: rows and offsets, in one transaction; read by the cycle's mine step.

`run` knows time and stopping, `step` the order of one batch, and the stages it calls are pure.
"""

import threading
from collections.abc import Mapping
from typing import Final

import structlog

from relevanced.consumers.clicks import click_rows
from relevanced.consumers.dead_letters import dead_letter_rows
from relevanced.consumers.decode import decode_batch
from relevanced.consumers.feedback import feedback_rows
from relevanced.consumers.impressions import impression_rows, query_rows
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.errors import Retry
from relevanced.daemon.ports import EventLog, EventSource
from relevanced.daemon.records import Batch, Outcome

MAX_RECORDS: Final = 2_000  # a batch; a commit costs about the same for 100 records as for 2,000
IDLE_SECONDS: Final = 0.2  # between polls that found nothing
FIRST_PAUSE_SECONDS: Final = 0.05  # after a Retry; enough for another writer's commit
LONGEST_PAUSE_SECONDS: Final = 10.0

_logger: Final = structlog.get_logger(__name__)


def run(source: EventSource, log: EventLog, stop: threading.Event) -> None:
    """
    Take everything from the source until stop is set; the batch in hand is finished first.

    Raises: StopDaemon and BadInput, which waiting does not mend.
    """
    at_its_place, pause = False, FIRST_PAUSE_SECONDS
    while not stop.is_set():
        try:
            if not at_its_place:
                source.seek(log.offsets(source.name))
                at_its_place = True
            outcome = step(source, log)
        except Retry as error:
            # What was polled and not stored has to be polled again, so the source goes back to what the log store says.
            at_its_place = False
            _logger.warning("Waiting to try again.", source=source.name, reason=str(error), seconds=pause)
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            continue
        pause = FIRST_PAUSE_SECONDS
        if outcome.verdict == "nothing":
            stop.wait(IDLE_SECONDS)
        else:
            _logger.info(outcome.sentence, **outcome.numbers)


def step(source: EventSource, log: EventLog) -> Outcome:
    """Take one batch from the source to the log store."""
    batch = source.poll(MAX_RECORDS)
    if not batch.next_offsets:
        return Outcome(f"Nothing new from {source.name}.", verdict="nothing")
    decoded = decode_batch(batch.records)
    tables = {
        "query": query_rows(decoded.queries),
        "impression": impression_rows(decoded.events),
        "click": click_rows(decoded.events),
        "feedback": feedback_rows(decoded.events),
        "dead_letter": dead_letter_rows(batch.source, decoded.rejects, SystemClock().now()),
    }
    with log.transaction() as rows:
        _refuse_what_is_stored(batch, log.offsets(batch.source))
        for table, new in tables.items():
            if new.num_rows:
                rows.append(table, new)
        rows.advance(batch.source, batch.next_offsets)  # the offsets that count; a restart seeks to them
    source.commit(batch.next_offsets)  # a courtesy to lag monitors
    stored = len(decoded.queries) + len(decoded.events)
    return Outcome(
        f"Stored {stored:,} records from {source.name}, set {len(decoded.rejects):,} aside.",
        {"source": source.name, "stored": stored, "dead_letters": len(decoded.rejects)},
    )


def _refuse_what_is_stored(batch: Batch, stored: Mapping[str, int]) -> None:
    """
    Give up a batch that begins before the stored offset of its partition.

    A consumer that was paused and lost its partition to another comes back with records that are stored already. It
    asks inside its own transaction, after that has begun: whoever stored them before is seen here, and whoever does so
    after makes the commit fail.
    Raises: Retry.
    """
    begins = dict(batch.next_offsets)
    for record in batch.records:
        begins[record.partition] = min(begins[record.partition], record.offset)
    for partition, offset in begins.items():
        if stored.get(partition, 0) > offset:
            raise Retry(
                f"Another consumer has stored {batch.source} {partition} up to {stored[partition]:,};"
                f" this one was at {offset:,}."
            )
