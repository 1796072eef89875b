"""
Impressions: which documents were shown for a query, and where.

In:  decoded queries and events. Out: rows of the log store's tables `query` and `impression`; read by sql/duckdb.

A query's hit_ids are its impressions as far as the search service knows; an impression event says that a document was
really rendered.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from relevanced.consumers.events import MAX_POSITION, UbiEvent, UbiQuery, number

MOMENT: Final = pa.timestamp("us", tz="UTC")

QUERY: Final = pa.schema(
    {
        "query_id": pa.string(),
        "user_query": pa.string(),
        "client_id": pa.string(),
        "session_id": pa.string(),
        "application": pa.string(),
        "timestamp": MOMENT,
        "hit_ids": pa.list_(pa.string()),
        "page_offset": pa.int32(),
        "version": pa.string(),
        "policy": pa.string(),
        "propensities": pa.list_(pa.float64()),
    }
)

IMPRESSION: Final = pa.schema(
    {
        "query_id": pa.string(),
        "document_id": pa.string(),
        "position": pa.int32(),
        "client_id": pa.string(),
        "session_id": pa.string(),
        "application": pa.string(),
        "timestamp": MOMENT,
    }
)


def query_rows(queries: Sequence[UbiQuery]) -> pa.Table:
    """One row of QUERY for each record; empty ids are null, and so are hit_ids that are missing."""
    return pa.Table.from_pylist([_query_row(query) for query in queries], schema=QUERY)


def impression_rows(events: Sequence[UbiEvent]) -> pa.Table:
    """One row of IMPRESSION for each event with the action `impression`."""
    rows = [shown_row(event) for event in events if event.action_name == "impression"]
    return pa.Table.from_pylist(rows, schema=IMPRESSION)


def shown_row(event: UbiEvent) -> dict[str, Any]:
    """The columns that every event about a document has."""
    return {
        "query_id": event.query_id,
        "document_id": event.document_id,
        "position": event.position,
        "client_id": event.client_id or None,
        "session_id": event.session_id or None,
        "application": event.application or None,
        "timestamp": event.timestamp,
    }


def _query_row(query: UbiQuery) -> dict[str, Any]:
    attributes = query.query_attributes or {}
    hits = query.query_response_hit_ids
    return {
        "query_id": query.query_id,
        "user_query": query.user_query,
        "client_id": query.client_id or None,
        "session_id": query.session_id or None,
        "application": query.application or None,
        "timestamp": query.timestamp,
        "hit_ids": None if hits is None else [str(hit) for hit in hits],
        "page_offset": _page_offset(attributes),
        "version": _name(attributes, "version"),
        "policy": _name(attributes, "policy"),
        "propensities": _propensities(attributes),
    }


# query_attributes are free: a producer that knows nothing of us may use our names for something else. What does not
# have our form is therefore left out, rather than the record set aside.


def _name(attributes: Mapping[str, Any], key: str) -> str | None:
    value = attributes.get(key)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _page_offset(attributes: Mapping[str, Any]) -> int:
    value = attributes.get("offset")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_POSITION else 0


def _propensities(attributes: Mapping[str, Any]) -> list[float] | None:
    """One propensity in (0, 1] for each hit, or None."""
    values = attributes.get("propensities")
    numbers = [number(value) for value in values] if isinstance(values, list) else []
    found = [value for value in numbers if value is not None and 0 < value <= 1]
    return found if found and len(found) == len(numbers) else None
