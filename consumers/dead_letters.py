"""
Dead letters: the records that cannot be used, each with its reason, its place and its payload.

In:  the rejects of one batch. Out: rows of the log store's table `dead_letter`; read by whoever replays them.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

import pyarrow as pa

from relevanced.consumers.impressions import MOMENT
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
