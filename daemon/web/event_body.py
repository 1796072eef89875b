"""
The body of POST /v1/events, taken apart.

In:  the bytes and their content type: one JSON object, an array of them, one a line (NDJSON), or lines in OpenSearch's
bulk format. Out: entries, each a record that `decode` has accepted or the reason why it was not; doors answers them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException

from relevanced.daemon.errors import DeadLetter
from relevanced.daemon.web.problems import BadRecords

JSON: Final = "application/json"
LINES: Final = ("application/x-ndjson", "application/jsonl", "application/ndjson")
MAX_RECORDS: Final = 20_000  # of one body
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TAKEN: Final = ("index", "create")
_ACTIONS: Final = (*_TAKEN, "update", "delete")

Decode = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Action:
    """An action line of OpenSearch's bulk format."""

    name: str
    index: str | None
    document_id: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a body: taken, or refused for a reason; `action` only in a bulk body."""

    record: dict[str, Any] | None
    reason: str | None = None
    action: Action | None = None


def read_entries(body: bytes, content_type: str, decode: Decode) -> list[Entry]:
    """
    Judge the records of one body, in its order.

    Args:
        decode: raises DeadLetter for a record that can never be used.
    Raises: BadRecords when the body as a whole cannot be read; HTTPException 415 for another content type. A page of
        another site could send text/plain without asking first, but no JSON.
    """
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type not in (JSON, *LINES):
        raise HTTPException(415, f"Send {JSON}, or {LINES[0]} for one record a line.")
    lines = [line for line in body.splitlines() if line.strip()]
    _refuse_more_than(MAX_RECORDS, len(lines) // 2)  # a bulk body has two lines a record
    if lines and (content_type in LINES or len(lines) > 1) and _action(lines[0]):
        entries = list(_bulk(lines, decode))
    else:
        values = lines if content_type in LINES else _values(body)
        _refuse_more_than(MAX_RECORDS, len(values))
        entries = [_entry(bytes(value), decode) for value in values]
    if not entries:
        raise BadRecords("The body has no record; send a UBI query or event.")
    return entries


def _refuse_more_than(most: int, records: int) -> None:
    """A packed body of a few kB may hold millions of empty records."""
    if records > most:
        raise HTTPException(413, f"The body has more than {most:,} records; send it in parts.")


def _entry(value: bytes, decode: Decode, action: Action | None = None) -> Entry:
    try:
        if decode(value) is None:
            raise DeadLetter("An action line of OpenSearch's bulk format is no record; begin the body with one.")
        return Entry(msgspec.json.decode(value), action=action)
    except DeadLetter as error:
        return Entry(None, str(error), action)
    except _UNREADABLE as error:  # in a field that decode passes over
        return Entry(None, f"The record is not JSON: {error}.", action)


def _values(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    if not body.lstrip().startswith(b"["):
        return [body] if body.strip() else []
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except _UNREADABLE as error:
        raise BadRecords(f"The array cannot be read: {error}.") from None


def _bulk(lines: Sequence[bytes], decode: Decode) -> Iterator[Entry]:
    following = iter(enumerate(lines, start=1))
    for number, line in following:
        action = _action(line)
        if action is None:
            raise BadRecords(f'Line {number} should be an action such as {{"index": {{}}}}; nothing was taken.')
        if action.name == "delete":
            yield Entry(None, "The log of events only grows: delete is not taken.", action)
            continue
        _, source = next(following, (0, None))
        if source is None:
            raise BadRecords(f"Line {number} is an action without a record after it; nothing was taken.")
        if action.name in _TAKEN:
            yield _entry(source, decode, action)
        else:
            yield Entry(None, "The log of events only grows: update is not taken.", action)


def _action(line: bytes) -> Action | None:
    try:
        found = msgspec.json.decode(line)
    except _UNREADABLE:
        return None
    if not isinstance(found, dict) or len(found) != 1:
        return None
    ((name, about),) = found.items()
    if name not in _ACTIONS or not isinstance(about, dict):
        return None
    index, document_id = about.get("_index"), about.get("_id")
    return Action(name, index if isinstance(index, str) else None, None if document_id is None else str(document_id))
