"""
Decode: from the bytes of records to UBI queries and events.

In:  records of one batch. Out: Decoded, the queries and events for the row stages, and the rejects for dead_letters.

`decode` is the authority on what a record is and says what is wrong with it. Most records are regular: one narrower
reading, ten times as quick, is sure to find the same in them, and what is not regular throughout goes to `decode`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from relevanced.consumers.events import Instant, UbiEvent, UbiQuery, UbiRecord
from relevanced.consumers.moments import are_moments
from relevanced.daemon.errors import DeadLetter
from relevanced.daemon.records import RawRecord

TOGETHER: Final = 100  # records read at once; those around one that is not regular are read by tens, then each alone
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
_TEXT_OR_NONE: Final = frozenset({str, type(None)})
_MUST_NAME_A_DOCUMENT: Final = frozenset({"click", "impression"})


def decode_batch(records: Sequence[RawRecord]) -> Decoded:
    """Sort the records of a batch; action lines of OpenSearch's bulk format are no records and leave no trace."""
    decoded = Decoded()
    _sort(records, TOGETHER, decoded)
    return decoded


def _sort(records: Sequence[RawRecord], together: int, decoded: Decoded) -> None:
    for begin in range(0, len(records), together):
        some = records[begin : begin + together]
        if (regular := read_regular([value for _, _, value in some])) is not None:
            decoded.queries.extend([record for record in regular if record.action_name is None])
            decoded.events.extend([record for record in regular if record.action_name is not None])
        elif len(some) > 1:
            _sort(some, max(1, together // 10), decoded)
        else:
            _ask_the_authority(some[0], decoded)


def _ask_the_authority(record: RawRecord, decoded: Decoded) -> None:
    try:
        match decode(record.value):
            case UbiQuery() as query:
                decoded.queries.append(query)
            case UbiEvent() as event:
                decoded.events.append(event)
    except DeadLetter as reason:
        decoded.rejects.append((record, str(reason)))


def read_regular(values: Sequence[bytes]) -> list[UbiRecord] | None:
    """Read records that are regular, so that `decode` would find the same in each; None when one of them is not."""
    together = b"".join(values)
    # One sign is found ten times sooner than six, and few records have it.
    if max(map(len, values)) > MAX_RECORD or (b"\\" in together and rb"\u0000" in together):
        return None
    try:
        records = list(map(_REGULAR.decode, values))
        return records if _have_moments(records) and _are_whole(records) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _have_moments(records: Sequence[UbiRecord]) -> bool:
    """
    Whether each timestamp is missing or a moment for sure; what is neither text nor missing is read on the way.

    Raises: ValueError when that is no moment.
    """
    found = [record.timestamp for record in records]
    if not _TEXT_OR_NONE.issuperset(map(type, found)):
        for record in records:
            if type(record.timestamp) not in _TEXT_OR_NONE:
                record.timestamp = Instant.read(record.timestamp)
    texts = [moment for moment in found if type(moment) is str]
    return not texts or are_moments(texts)


def _are_whole(records: Sequence[UbiRecord]) -> bool:
    """Whether each has what its kind must have."""
    for record in records:
        action = record.action_name
        if action is None:
            if record.user_query is None:
                return False
        elif record.timestamp is None or (action in _MUST_NAME_A_DOCUMENT and record.document_id is None):
            return False
    return True


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
