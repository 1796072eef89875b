"""
Feedback: every action other than impression and click, such as purchase, upvote, downvote, cite, or search.

In:  decoded events. Out: rows of the log store's table `feedback`; read by sql/duckdb.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from relevanced.consumers.events import UbiEvent, number
from relevanced.consumers.impressions import MOMENT

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


def feedback_rows(events: Sequence[UbiEvent]) -> pa.Table:
    """One row of FEEDBACK for each other event; `value` is its `rating`, null when it has none."""
    rows = [
        {
            "query_id": event.query_id,
            "document_id": event.document_id,
            "action": event.action_name,
            "value": number(event.event_attributes and event.event_attributes.rating),
            "client_id": event.client_id or None,
            "session_id": event.session_id or None,
            "application": event.application or None,
            "timestamp": event.timestamp,
        }
        for event in events
        if event.action_name not in _ROWS_OF_THEIR_OWN
    ]
    return pa.Table.from_pylist(rows, schema=FEEDBACK)
