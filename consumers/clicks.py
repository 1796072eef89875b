"""
Clicks: which of the shown documents were chosen.

In:  decoded events. Out: rows of the log store's table `click`; read by sql/duckdb.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from relevanced.consumers.events import UbiEvent, number
from relevanced.consumers.impressions import IMPRESSION, shown_row

CLICK: Final = IMPRESSION.append(pa.field("dwell_seconds", pa.float64()))


def click_rows(events: Sequence[UbiEvent]) -> pa.Table:
    """One row of CLICK for each event with the action `click`; dwell_seconds is null when it is not a number."""
    rows = [
        {**shown_row(event), "dwell_seconds": number(event.event_attributes and event.event_attributes.dwell_seconds)}
        for event in events
        if event.action_name == "click"
    ]
    return pa.Table.from_pylist(rows, schema=CLICK)
