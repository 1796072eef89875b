"""
Storing: one batch becomes rows and offsets, in one transaction.

In:  a batch from loop. Out: rows of the log store's tables, and the sentence about them; read by the cycle's mine step.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from relevanced.consumers.clicks import click_rows
from relevanced.consumers.dead_letters import BadShare, dead_letter_rows
from relevanced.consumers.decode import Decoded, decode_batch
from relevanced.consumers.feedback import feedback_rows
from relevanced.consumers.impressions import impression_rows, query_rows
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.errors import Retry
from relevanced.daemon.ports import EventLog
from relevanced.daemon.records import Batch, Outcome, RawRecord


def store(batch: Batch, log: EventLog, bad_share: BadShare) -> Outcome:
    """
    Take a batch to the log store.

    Raises: Retry when nothing of it was stored, StopDaemon when it was, and too much of it is bad.
    """
    decoded, tables = _rows_of(batch.records)
    if decoded.rejects:
        tables["dead_letter"] = dead_letter_rows(batch.source, decoded.rejects, SystemClock().now())
    with log.transaction() as rows:
        _refuse_what_is_stored(batch, log.offsets(batch.source))
        for table, new in tables.items():
            if new.num_rows:
                rows.append(table, new)
        rows.advance(batch.source, batch.next_offsets)  # the offsets that count; a restart seeks to them
    bad_share.note(len(batch.records), [reason for _, reason in decoded.rejects])
    stored = len(decoded.queries) + len(decoded.events)
    return Outcome(
        f"Stored {stored:,} records from {batch.source}, set {len(decoded.rejects):,} aside.",
        {"source": batch.source, "stored": stored, "dead_letters": len(decoded.rejects)},
    )


def _rows_of(records: Sequence[RawRecord]) -> tuple[Decoded, dict[str, pa.Table]]:
    """Decode all at once; when that fails in a way nobody thought of, one by one, to find out which does it."""
    try:
        decoded = decode_batch(records)
        return decoded, _tables(decoded)
    except Exception:  # noqa: BLE001 - what it is, is asked of each record
        sound = Decoded()
    for record in records:
        try:
            one = decode_batch([record])
            _tables(one)
        except Exception as error:  # noqa: BLE001 - one record must not stop all that come after it
            one = Decoded(rejects=[(record, f"The record cannot be made a row of ({type(error).__name__}).")])
        sound.queries.extend(one.queries)
        sound.events.extend(one.events)
        sound.rejects.extend(one.rejects)
    return sound, _tables(sound)


def _tables(decoded: Decoded) -> dict[str, pa.Table]:
    return {
        "query": query_rows(decoded.queries),
        "impression": impression_rows(decoded.events),
        "click": click_rows(decoded.events),
        "feedback": feedback_rows(decoded.events),
    }


def _refuse_what_is_stored(batch: Batch, stored: Mapping[str, int]) -> None:
    """
    Give up a batch that begins before the stored offset of its partition.

    A consumer that was paused and lost its partition to another comes back with records that are stored already. It
    asks inside its own transaction, after that has begun: whoever stored them before is seen here, and whoever does so
    after makes the commit fail.
    Raises: Retry.
    """
    # A partition's own records are in their order, so that backwards its first is the one that stays.
    begins = {**batch.next_offsets, **{partition: offset for partition, offset, _ in reversed(batch.records)}}
    for partition, offset in begins.items():
        if stored.get(partition, 0) > offset:
            raise Retry(
                f"Another consumer has stored {batch.source} {partition} up to {stored[partition]:,};"
                f" this one was at {offset:,}."
            )
