"""
The loop: from a source to the log store, batch by batch.

In:  an EventSource and the log store. Out: batches, for storing; and outcomes, told to the log.

`run` knows time and stopping. It polls and prepares in its own thread while a second one stores the batch before: at
most one batch is being stored and one gathered, so a slow log store slows the polling and not the memory.
"""

import gc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Final

import structlog

from relevanced.consumers.dead_letters import BadShare, IngestPolicy
from relevanced.consumers.storing import Prepared, prepare, store
from relevanced.daemon.errors import Retry
from relevanced.daemon.ports import EventLog, EventSource
from relevanced.daemon.records import Batch, Outcome, RawRecord

MAX_RECORDS: Final = 50_000  # a batch; a commit costs about the same for 100 records as for some thousands
MAX_BYTES: Final = 64_000_000  # and no more of long ones, so that two batches fit into memory
GATHER_SECONDS: Final = 1.0  # until a batch is stored that has not become full
IDLE_SECONDS: Final = 0.2  # between polls that found nothing
FIRST_PAUSE_SECONDS: Final = 0.05  # after a Retry; enough for another writer's commit
LONGEST_PAUSE_SECONDS: Final = 10.0
GARBAGE_OBJECTS: Final = 100_000  # between two looks for garbage; after every 700 it would look again at whole batches
DEFAULTS: Final = IngestPolicy()

_logger: Final = structlog.get_logger(__name__)


def run(source: EventSource, log: EventLog, stop: threading.Event, policy: IngestPolicy = DEFAULTS) -> None:
    """
    Take everything from the source until stop is set; the batches in hand are finished first.

    Raises: StopDaemon and BadInput, which waiting does not mend.
    """
    known: dict[str, int] | None = None  # the stored offsets, as this consumer has left them
    pause = FIRST_PAUSE_SECONDS
    bad_share = BadShare(source.name, policy)
    gc.set_threshold(GARBAGE_OBJECTS)
    with ThreadPoolExecutor(1, thread_name_prefix=f"{source.name} storing") as storing:
        in_hand: tuple[Prepared, Future[Outcome]] | None = None
        while not stop.is_set() or in_hand:
            try:
                if known is None:
                    known = log.offsets(source.name)
                    source.seek(known)
                prepared = prepare(_nothing(source) if stop.is_set() else gather(source, stop))
                if in_hand:
                    _tell(_finish(source, *in_hand))
                    known |= in_hand[0].next_offsets
                    in_hand, pause = None, FIRST_PAUSE_SECONDS
                if prepared.next_offsets:
                    in_hand = prepared, storing.submit(store, prepared, log, bad_share, dict(known))
                elif not stop.is_set():
                    stop.wait(IDLE_SECONDS)
            except Retry as error:
                # What was polled and not stored has to be polled again, so the source goes back to what the log store
                # says, after the batch in hand has come to its end there.
                if in_hand:
                    with suppress(Retry):
                        in_hand[1].result()
                in_hand, known = None, None
                _logger.warning("Waiting to try again.", source=source.name, reason=str(error), seconds=pause)
                stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def step(source: EventSource, log: EventLog, bad_share: BadShare | None = None) -> Outcome:
    """Take one poll's records from the source to the log store."""
    batch = source.poll(MAX_RECORDS)
    if not batch.next_offsets:
        return Outcome(f"Nothing new from {source.name}.", verdict="nothing")
    outcome = store(prepare(batch), log, bad_share or BadShare(source.name, DEFAULTS), {})
    source.commit(batch.next_offsets)  # a courtesy to lag monitors
    return outcome


def gather(source: EventSource, stop: threading.Event) -> Batch:
    """
    Poll until the batch is full, nothing more is there, or GATHER_SECONDS are over.

    Raises: Retry, also when a partition goes back, as it does when the group takes it away and gives it again.
    """
    records: list[RawRecord] = []
    next_offsets: dict[str, int] = {}
    size, begun = 0, monotonic()
    while True:
        batch = source.poll(MAX_RECORDS - len(records))
        for partition, offset in batch.begins.items():
            if offset < next_offsets.get(partition, 0):
                raise Retry(f"{source.name} {partition} went back to {offset:,} while it was read.")
        size += sum([len(value) for _, _, value in batch.records])
        records += batch.records
        next_offsets |= batch.next_offsets
        is_over = not batch.next_offsets or monotonic() - begun > GATHER_SECONDS or stop.is_set()
        if is_over or len(records) >= MAX_RECORDS or size >= MAX_BYTES:
            return Batch(source.name, records, next_offsets)


def _nothing(source: EventSource) -> Batch:
    return Batch(source.name, [], {})


def _finish(source: EventSource, prepared: Prepared, stored: Future[Outcome]) -> Outcome:
    """
    Wait until the batch is stored, and tell the source.

    Raises: what storing it raised.
    """
    outcome = stored.result()
    source.commit(prepared.next_offsets)  # a courtesy to lag monitors
    return outcome


def _tell(outcome: Outcome) -> None:
    _logger.info(outcome.sentence, **outcome.numbers)
