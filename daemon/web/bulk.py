"""
The answer to a body in OpenSearch's bulk format, as its clients expect it: one item for each action.

In:  the entries of the body. Out: the JSON of a bulk response.

Source: OpenSearch 3 API reference, "Bulk": status 200 whatever became of the items, `errors` true when any failed, and
for each item its own status with an error of `type` and `reason`.
"""

from collections.abc import Sequence
from typing import Any

from relevanced.daemon.web.event_body import Entry


def bulk_answer(entries: Sequence[Entry], index: str | None, milliseconds: int) -> dict[str, Any]:
    """The response; `index` is the one in the path, for actions that name none."""
    return {
        "took": milliseconds,
        "errors": any(entry.reason for entry in entries),
        "items": [_item(entry, index) for entry in entries],
    }


def _item(entry: Entry, index: str | None) -> dict[str, Any]:
    assert entry.action is not None
    about = {"_index": entry.action.index or index or "ubi", "_id": entry.action.document_id}
    if entry.reason is None:
        return {entry.action.name: {**about, "status": 201, "result": "created"}}
    error = {"type": "mapper_parsing_exception", "reason": entry.reason}
    return {entry.action.name: {**about, "status": 400, "error": error}}
