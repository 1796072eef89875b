"""
Feedback: every action other than impression and click, such as purchase, upvote, downvote, cite, or search.

In:  decoded events. Out: rows of the log store's table `feedback`; read by sql/duckdb.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from relevanced.consumers.events import UbiEvent, UbiRecord, number
from relevanced.consumers.impressions import who_and_when
from relevanced.consumers.moments import MOMENT

FEEDBACK: Final = pa.schema(
    {
        "query_id": pa.string(),
        "document_id": pa.string(),
        "action": pa.string(),
        "value": pa.float64(),
        "client_id": pa.string(),
        "session_id": pa.string(),
        "application": pa.string(),
        "timestamp": MOMENT,
    }
)

_ROWS_OF_THEIR_OWN: Final = frozenset({"impression", "click"})


def feedback_rows(events: Sequence[UbiEvent | UbiRecord]) -> pa.Table:
    """One row of FEEDBACK for each other event; `value` is its `rating`, null when it has none."""
    chosen = [event for event in events if event.action_name not in _ROWS_OF_THEIR_OWN]
    columns = {
        **who_and_when(chosen),
        "document_id": [event.document_id for event in chosen],
        "action": [event.action_name for event in chosen],
        "value": [number(event.event_attributes and event.event_attributes.rating) for event in chosen],
    }
    return pa.Table.from_pydict(columns, schema=FEEDBACK)
