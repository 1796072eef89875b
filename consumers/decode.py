"""
Decode: from the bytes of records to UBI queries and events.

In:  records of one batch. Out: Decoded, the queries and events for the row stages, and the rejects for dead_letters.

`decode` is the authority on what a record is and says what is wrong with it. Most records are regular: one narrower
reading, five times as quick, is sure to find the same in them, and whatever it does not take goes to `decode`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from relevanced.consumers.events import Instant, UbiEvent, UbiQuery, UbiRecord
from relevanced.daemon.errors import DeadLetter
from relevanced.daemon.records import RawRecord

MAX_RECORD: Final = 1_000_000  # bytes; a UBI record has a few kB, and a log line of this size is a mistake


class _Shape(msgspec.Struct):
    """What tells the kinds of record apart; their fields are checked afterwards, by the kind's own decoder."""

    action_name: msgspec.Raw = msgspec.Raw()
    query_id: msgspec.Raw = msgspec.Raw()
    user_query: msgspec.Raw = msgspec.Raw()
    index: msgspec.Raw = msgspec.Raw()
    create: msgspec.Raw = msgspec.Raw()

    @property
    def is_event(self) -> bool:
        return bytes(self.action_name) not in (b"", b"null")

    @property
    def is_bulk_action(self) -> bool:
        return bool(self.index or self.create) and not (self.query_id or self.user_query)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One batch, sorted; `rejects` are the records that will never be readable, each with its reason."""

    queries: list[UbiQuery | UbiRecord] = field(default_factory=list)
    events: list[UbiEvent | UbiRecord] = field(default_factory=list)
    rejects: list[tuple[RawRecord, str]] = field(default_factory=list)


def _read_instant(wanted: type, value: object) -> Any:
    if wanted is Instant:
        return Instant.read(value)
    raise NotImplementedError(f"UBI records hold no {wanted.__name__}")


_SHAPE: Final = msgspec.json.Decoder(_Shape)
_QUERY: Final = msgspec.json.Decoder(UbiQuery, dec_hook=_read_instant)
_EVENT: Final = msgspec.json.Decoder(UbiEvent, dec_hook=_read_instant)
_REGULAR: Final = msgspec.json.Decoder(UbiRecord)
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MUST_NAME_A_DOCUMENT: Final = frozenset({"click", "impression"})


def decode_batch(records: Iterable[RawRecord]) -> Decoded:
    """Sort the records of a batch; action lines of OpenSearch's bulk format are no records and leave no trace."""
    decoded = Decoded()
    for record in records:
        if regular := decode_regular(record.value):
            (decoded.queries if regular.action_name is None else decoded.events).append(regular)
            continue
        try:
            match decode(record.value):
                case UbiQuery() as query:
                    decoded.queries.append(query)
                case UbiEvent() as event:
                    decoded.events.append(event)
        except DeadLetter as reason:
            decoded.rejects.append((record, str(reason)))
    return decoded


def decode_regular(value: bytes) -> UbiRecord | None:
    """Read one record if it is regular, so that `decode` would find the same in it; else None, whatever it is."""
    if len(value) > MAX_RECORD or (b"\\" in value and b"\\u0000" in value):  # one sign is found sooner than six
        return None
    try:
        record = _REGULAR.decode(value)
        moment = record.timestamp
        if type(moment) is str:
            read = datetime.fromisoformat(moment)  # the row stages read it again, all of a batch at once
            if read.tzinfo is None or not 1 < read.year < 9999:  # the last years may not exist in UTC
                return None
        elif moment is not None:
            record.timestamp = moment = Instant.read(moment)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if record.action_name is None:
        return None if record.user_query is None else record
    if moment is None or (record.action_name in _MUST_NAME_A_DOCUMENT and record.document_id is None):
        return None
    return record


def decode(value: bytes) -> UbiQuery | UbiEvent | None:
    """
    Read one record: a query when it has no action_name, otherwise an event.

    Returns: None for an action line of OpenSearch's bulk format.
    Raises: DeadLetter with a sentence for people when the record is not as EVENTS.md says.
    """
    if len(value) > MAX_RECORD:
        raise DeadLetter(f"The record is longer than {MAX_RECORD:,} bytes.")
    if _NUL.search(value):
        raise DeadLetter("The record holds the character U+0000, which Postgres cannot store.")
    kind = "record"
    try:
        shape = _SHAPE.decode(value)
        if shape.is_event:
            kind = "event"
            return _checked(_EVENT.decode(value))
        if shape.is_bulk_action:
            return None
        kind = "query"
        return _QUERY.decode(value)
    except msgspec.ValidationError as error:
        raise DeadLetter(f"The {kind} is not as UBI says: {_in_words(error)}.") from None
    except msgspec.DecodeError as error:
        raise DeadLetter(f"The record is not JSON: {_in_words(error)}.") from None
    except UnicodeDecodeError as error:
        raise DeadLetter(f"The record is not UTF-8: {error.reason}.") from None
    except RecursionError:
        raise DeadLetter("The record is nested too deeply to be read.") from None


def _checked(event: UbiEvent) -> UbiEvent:
    if event.action_name in _MUST_NAME_A_DOCUMENT and event.document_id is None:
        raise DeadLetter(f"The {event.action_name} names no document: event_attributes.object.object_id is missing.")
    return event


def _in_words(error: Exception) -> str:
    """msgspec's words, with the field's path as a reader would write it."""
    text = str(error).removeprefix("JSON is malformed: ").replace(" - at `$.", " at `")
    return text[:1].lower() + text[1:]
