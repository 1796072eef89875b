"""
Clicks: which of the shown documents were chosen.

In:  decoded events. Out: rows of the log store's table `click`; read by sql/duckdb.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from relevanced.consumers.events import UbiEvent, UbiRecord, number
from relevanced.consumers.impressions import IMPRESSION, shown_columns

CLICK: Final = IMPRESSION.append(pa.field("dwell_seconds", pa.float64()))


def click_rows(events: Sequence[UbiEvent | UbiRecord]) -> pa.Table:
    """One row of CLICK for each event with the action `click`; dwell_seconds is null when it is not a number."""
    chosen = [event for event in events if event.action_name == "click"]
    dwell = [number(event.event_attributes and event.event_attributes.dwell_seconds) for event in chosen]
    return pa.Table.from_pydict({**shown_columns(chosen), "dwell_seconds": dwell}, schema=CLICK)
