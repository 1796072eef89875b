"""
Storing: one batch becomes rows and offsets, in one transaction.

In:  a batch from loop. Out: rows of the log store's tables, and the sentence about them; read by the cycle's mine step.

The two halves are apart because they need different things: `prepare` is Python's work, `store` DuckDB's and the
disk's, and so they can be done for two batches at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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

PIECE: Final = 1_000  # records made rows of at once; their objects fit into a processor's cache, a batch's do not


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    A batch as rows of the log store's tables, without the bytes that they were made of.

    `begins` and `next_offsets` say for each partition where the batch begins and where the next one does; `reasons` are
    those of its dead letters.
    """

    source: str
    tables: Mapping[str, pa.Table]
    begins: Mapping[str, int]
    next_offsets: Mapping[str, int]
    records: int
    stored: int
    reasons: Sequence[str]


def prepare(batch: Batch) -> Prepared:
    """Make rows of a batch, and dead letters of what no row can be made of."""
    pieces: dict[str, list[pa.Table]] = {}
    rejects: list[tuple[RawRecord, str]] = []
    stored = 0
    for begin in range(0, len(batch.records), PIECE):
        decoded, tables = _rows_of(batch.records[begin : begin + PIECE])
        for name, rows in tables.items():
            pieces.setdefault(name, []).append(rows)
        rejects += decoded.rejects
        stored += len(decoded.queries) + len(decoded.events)
    pieces["dead_letter"] = [dead_letter_rows(batch.source, rejects, SystemClock().now())]
    tables = {name: pa.concat_tables(found).combine_chunks() for name, found in pieces.items()}
    return Prepared(
        batch.source,
        {name: rows for name, rows in tables.items() if rows.num_rows},
        {**batch.next_offsets, **batch.begins},
        batch.next_offsets,
        len(batch.records),
        stored,
        [reason for _, reason in rejects],
    )


def store(prepared: Prepared, log: EventLog, bad_share: BadShare, known: Mapping[str, int]) -> Outcome:
    """
    Take a batch to the log store.

    Args:
        known: the stored offsets as this consumer has left them.
    Raises: Retry when nothing of it was stored, StopDaemon when it was, and too much of it is bad.
    """
    source = prepared.source
    with log.transaction() as rows:
        _refuse_what_is_elsewhere(prepared, log.offsets(source), known)
        for table, new in prepared.tables.items():
            rows.append(table, new)
        rows.advance(source, prepared.next_offsets)  # the offsets that count; a restart seeks to them
    bad_share.note(prepared.records, prepared.reasons)
    return Outcome(
        f"Stored {prepared.stored:,} records from {source}, set {len(prepared.reasons):,} aside.",
        {"source": source, "stored": prepared.stored, "dead_letters": len(prepared.reasons)},
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


def _refuse_what_is_elsewhere(prepared: Prepared, stored: Mapping[str, int], known: Mapping[str, int]) -> None:
    """
    Give up a batch of a partition that the log store has at another place than this consumer.

    A consumer that was paused and lost its partition to another comes back with records that are stored already; and
    `relevanced consume --from` moves a partition, which to store the batch all the same would undo. The consumer asks
    inside its own transaction, after that has begun: whoever came before is seen here, and whoever does so after makes
    the commit fail.
    Raises: Retry, after which the consumer goes on where the log store says.
    """
    for partition, offset in prepared.begins.items():
        now = stored.get(partition, 0)
        if now > offset:
            raise Retry(
                f"Another consumer has stored {prepared.source} {partition} up to {now:,}; this one was at {offset:,}."
            )
        if now != known.get(partition, now):
            raise Retry(f"{prepared.source} {partition} goes on from {now:,}, and not from {known[partition]:,}.")
