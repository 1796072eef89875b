"""
Impressions: which documents were shown for a query, and where.

In:  decoded queries and events. Out: rows of the log store's tables `query` and `impression`; read by sql/duckdb.

A query's hit_ids are its impressions as far as the search service knows; an impression event says that a document was
really rendered.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from relevanced.consumers.events import MAX_ID, MAX_POSITION, UbiEvent, UbiQuery, UbiRecord, number
from relevanced.consumers.moments import MOMENT, moments

QUERY: Final = pa.schema(
    {
        "query_id": pa.string(),
        "user_query": pa.string(),
        "client_id": pa.string(),
        "session_id": pa.string(),
        "application": pa.string(),
        "device": pa.string(),
        "timestamp": MOMENT,
        "hit_ids": pa.list_(pa.string()),
        "page_offset": pa.int32(),
        "version": pa.string(),
        "policy": pa.string(),
        "propensities": pa.list_(pa.float64()),
        "ranked_by": pa.list_(pa.string()),
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


_NONE: Final[Mapping[str, Any]] = {}


def query_rows(queries: Sequence[UbiQuery | UbiRecord]) -> pa.Table:
    """One row of QUERY for each record; empty ids are null, and so are hit_ids that are missing."""
    attributes = [query.query_attributes or _NONE for query in queries]
    columns = {
        **who_and_when(queries),
        "user_query": [query.user_query for query in queries],
        "hit_ids": _hit_ids(queries),
        "device": _given(attributes, "device", _device),
        "page_offset": _given(attributes, "offset", _page_offset, 0),
        "version": _given(attributes, "version", _name),
        "policy": _given(attributes, "policy", _name),
        "propensities": _given(attributes, "propensities", _propensities),
        "ranked_by": _given(attributes, "ranked_by", _names),
    }
    return pa.Table.from_pydict(columns, schema=QUERY)


def impression_rows(events: Sequence[UbiEvent | UbiRecord]) -> pa.Table:
    """One row of IMPRESSION for each event with the action `impression`."""
    chosen = [event for event in events if event.action_name == "impression"]
    return pa.Table.from_pydict(shown_columns(chosen), schema=IMPRESSION)


def who_and_when(records: Sequence[UbiQuery | UbiEvent | UbiRecord]) -> dict[str, Any]:
    """The columns that queries and events have in common."""
    return {
        "query_id": [record.query_id for record in records],
        "client_id": [record.client_id or None for record in records],
        "session_id": [record.session_id or None for record in records],
        "application": [record.application or None for record in records],
        "timestamp": moments([record.timestamp for record in records]),
    }


def shown_columns(events: Sequence[UbiEvent | UbiRecord]) -> dict[str, Any]:
    """The columns that every event about a document has."""
    return {
        **who_and_when(events),
        "document_id": [event.document_id for event in events],
        "position": [event.position for event in events],
    }


def _hit_ids(queries: Sequence[UbiQuery | UbiRecord]) -> pa.Array:
    hits = [query.query_response_hit_ids for query in queries]
    try:
        return pa.array(hits, QUERY.field("hit_ids").type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # some producers write numbers
        return pa.array([None if ids is None else list(map(str, ids)) for ids in hits], QUERY.field("hit_ids").type)


# query_attributes are free: a producer that knows nothing of us may use our names for something else. What does not
# have our form is therefore left out, rather than the record set aside.


def _given(
    attributes: Sequence[Mapping[str, Any]], key: str, read: Callable[[Any], Any], missing: Any = None
) -> list[Any]:
    return [missing if (value := free.get(key)) is None else read(value) for free in attributes]


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _device(value: Any) -> str | None:
    """The kind of device, or None; what is longer than a name in UBI is no kind."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def _names(values: Any) -> list[str] | None:
    """One name for each hit, or None."""
    names = [_name(value) for value in values] if isinstance(values, list) else []
    found = [name for name in names if name is not None]
    return found if found and len(found) == len(names) else None


def _page_offset(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_POSITION else 0


def _propensities(values: Any) -> list[float] | None:
    """One propensity in (0, 1] for each hit, or None."""
    numbers = [number(value) for value in values] if isinstance(values, list) else []
    found = [value for value in numbers if value is not None and 0 < value <= 1]
    return found if found and len(found) == len(numbers) else None
