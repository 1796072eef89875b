"""
Dead letters: the records that cannot be used, each with its reason, its place and its payload.

In:  the rejects of one batch. Out: rows of the log store's table `dead_letter`; read by whoever replays them. When they
are too many, a StopDaemon: a producer has changed its format, and the disk would fill with what nobody reads.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Final

import pyarrow as pa
from annotated_types import Ge, Interval

from relevanced.consumers.moments import MOMENT
from relevanced.daemon.errors import StopDaemon
from relevanced.daemon.records import RawRecord

DEAD_LETTER: Final = pa.schema(
    {
        "dead_letter_id": pa.string(),
        "reason": pa.string(),
        "source": pa.string(),
        "partition": pa.string(),
        "offset": pa.int64(),
        "payload": pa.binary(),
        "received_at": MOMENT,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestPolicy:
    """When a consumer stops rather than set more and more records aside."""

    max_bad_share: Annotated[float, Interval(gt=0, le=1)] = 0.5  # of the last records of a source; 1 never stops
    bad_share_over: Annotated[int, Ge(1)] = 1000  # those last records; a few bad ones at the start say nothing yet


class BadShare:
    """How many of a source's last records were dead letters."""

    def __init__(self, source: str, policy: IngestPolicy) -> None:
        self._source, self._policy = source, policy
        self._batches: deque[tuple[int, Counter[str]]] = deque()
        self._records = 0

    def note(self, records: int, reasons: Sequence[str]) -> None:
        """
        Take in what a batch brought, once it is stored.

        Raises: StopDaemon when too many of the last records were bad; none of them is lost.
        """
        self._batches.append((records, Counter(reasons)))
        self._records += records
        while self._records - self._batches[0][0] >= self._policy.bad_share_over:
            self._records -= self._batches.popleft()[0]
        bad = sum((counted for _, counted in self._batches), Counter[str]())
        if self._records >= self._policy.bad_share_over and bad.total() > self._policy.max_bad_share * self._records:
            ((reason, times),) = bad.most_common(1)
            raise StopDaemon(
                f"{bad.total():,} of the last {self._records:,} records from {self._source} cannot be read,"
                f" {times:,} of them for this reason: {reason} They are kept: see `relevanced dead-letters list`, mend"
                " the producer and start again, or raise [ingest] max_bad_share."
            )


def dead_letter_rows(source: str, rejects: Sequence[tuple[RawRecord, str]], received_at: datetime) -> pa.Table:
    """One row of DEAD_LETTER for each reject; its id follows from its place, so a record has one id for ever."""
    rows = [
        {
            "dead_letter_id": sha256(f"{source}\n{record.partition}\n{record.offset}".encode()).hexdigest()[:32],
            "reason": reason,
            "source": source,
            "partition": record.partition,
            "offset": record.offset,
            "payload": record.value,
            "received_at": received_at,
        }
        for record, reason in rejects
    ]
    return pa.Table.from_pylist(rows, schema=DEAD_LETTER)
