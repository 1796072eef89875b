"""
Replaying: records that were refused are read again; and files are read into a log that passes.

In:  dead letters, or a source. Out: rows. A dead letter leaves the log in the transaction that stores its rows, so no
kill can come between the two; one that is still refused stays as it is, with the place it came from.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

import pyarrow as pa

from relevanced.consumers.clicks import click_rows
from relevanced.consumers.dead_letters import dead_letter_rows
from relevanced.consumers.decode import Decoded, decode_batch
from relevanced.consumers.feedback import feedback_rows
from relevanced.consumers.impressions import impression_rows, query_rows
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.ports import EventSource
from relevanced.daemon.records import RawRecord

MAX_RECORDS: Final = 2_000  # in one transaction


class Rows(Protocol):
    """One open transaction: log_store.Rows."""

    def append(self, table: str, rows: pa.Table) -> None: ...

    def remove_dead_letters(self, dead_letter_ids: Sequence[str]) -> None:
        """Raises: Retry when one of them is gone already."""
        ...


class ReplayLog(Protocol):
    """The log store as replaying sees it: log_store.LogStore."""

    def transaction(self) -> AbstractContextManager[Rows]: ...


def replay(payloads: Mapping[str, bytes], log: ReplayLog) -> int:
    """
    Store what can be read now, and take those dead letters out.

    Args:
        payloads: dead_letter_id -> the record as it came.
    Returns: how many dead letters are gone.
    Raises: Retry when another process wrote meanwhile; nothing of it has happened then.
    """
    ids = list(payloads)
    decoded = decode_batch([RawRecord("", number, payloads[name]) for number, name in enumerate(ids)])
    refused = {record.offset for record, _ in decoded.rejects}
    done = [name for number, name in enumerate(ids) if number not in refused]
    if done:
        with log.transaction() as rows:
            rows.remove_dead_letters(done)
            _append(rows, _tables(decoded))
    return len(done)


def read_some(source: EventSource, log: ReplayLog) -> int:
    """Store the next records of a source without its offsets; the refused become dead letters. Returns how many."""
    batch = source.poll(MAX_RECORDS)
    decoded = decode_batch(batch.records)
    tables = _tables(decoded)
    tables["dead_letter"] = dead_letter_rows(batch.source, decoded.rejects, SystemClock().now())
    with log.transaction() as rows:
        _append(rows, tables)
    return len(batch.records)


def _tables(decoded: Decoded) -> dict[str, pa.Table]:
    return {
        "query": query_rows(decoded.queries),
        "impression": impression_rows(decoded.events),
        "click": click_rows(decoded.events),
        "feedback": feedback_rows(decoded.events),
    }


def _append(rows: Rows, tables: Mapping[str, pa.Table]) -> None:
    for table, new in tables.items():
        if new.num_rows:
            rows.append(table, new)
