"""
The body of POST /v1/events, taken apart.

In:  the bytes and their content type: one JSON object, an array of them, or one a line (NDJSON).
Out: the records, each of which `decode` has accepted; app hands them to the sink.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException

from relevanced.daemon.errors import DeadLetter
from relevanced.daemon.web.problems import BadRecords

JSON: Final = "application/json"
LINES: Final = ("application/x-ndjson", "application/jsonl")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_records(body: bytes, content_type: str, decode: Callable[[bytes], object]) -> list[dict[str, Any]]:
    """
    Return the records of one body; all of them are good.

    Args:
        decode: raises DeadLetter for a record that can never be used, and gives None for one that says nothing.
    Raises: BadRecords with a reason for each bad one; HTTPException 415 for another content type. A page of another
        site could send text/plain without asking first, but no JSON.
    """
    values = _split(body, content_type.partition(";")[0].strip().lower())
    if not values:
        raise BadRecords("The body has no record; send a UBI query or event.")
    records, reasons = [], []
    for number, value in enumerate(values, start=1):
        try:
            if decode(bytes(value)) is not None:
                records.append(msgspec.json.decode(value))
        except DeadLetter as error:
            reasons.append({"record": number, "reason": str(error)})
        except _UNREADABLE as error:  # in a field that decode passes over
            reasons.append({"record": number, "reason": f"The record is not JSON: {error}."})
    if reasons:
        raise BadRecords(
            f"{len(reasons)} of {len(values)} records cannot be used, so none was taken; `errors` says why.", reasons
        )
    return records


def _split(body: bytes, content_type: str) -> Sequence[bytes | msgspec.Raw]:
    if content_type in LINES:
        return [line for line in body.splitlines() if line.strip()]
    if content_type != JSON:
        raise HTTPException(415, f"Send {JSON}, or {LINES[0]} for one record a line.")
    if not body.lstrip().startswith(b"["):
        return [body] if body.strip() else []
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except _UNREADABLE as error:
        raise BadRecords(f"The array cannot be read: {error}.") from None
