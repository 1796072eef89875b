"""
Memory: records that are handed over within the process; the simplest EventSource, and a RecordSink.

In:  UBI records, or bytes that should be one. Out: batches, read by loop.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from relevanced.daemon.records import Batch, RawRecord

_PARTITION: Final = "memory"


class MemorySource:
    """Keeps every record it was given, so that seek can go back to any; an offset is a place in that list."""

    name = "memory"

    def __init__(self, records: Sequence[Mapping[str, Any] | bytes] = ()) -> None:
        self._values: list[bytes] = []
        self._next = 0
        self.write(records)

    def write(self, records: Sequence[Mapping[str, Any] | bytes]) -> None:
        """Take the records; bytes are taken as they are, so that a broken record can be handed in too."""
        self._values += [record if isinstance(record, bytes) else msgspec.json.encode(record) for record in records]

    def poll(self, max_records: int) -> Batch:
        """Return the next records, at once."""
        start, self._next = self._next, min(self._next + max_records, len(self._values))
        records = [RawRecord(_PARTITION, offset, self._values[offset]) for offset in range(start, self._next)]
        return Batch(self.name, records, {_PARTITION: self._next} if records else {})

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Go on from the offset given, or from the first record."""
        self._next = offsets.get(_PARTITION, 0)

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Nobody watches the lag of a list."""

    def close(self) -> None:
        """Nothing is held open."""
