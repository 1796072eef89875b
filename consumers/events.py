"""
The records of User Behavior Insights (UBI 1.3.0), in both forms that producers use.

In:  a JSON object, given by decode. Out: UbiQuery and UbiEvent, or UbiRecord for either; read by impressions, clicks
and feedback.

The specification and OpenSearch's index mapping differ; what only one of them has is optional here. Fields that
nothing downstream reads are passed over, whatever they hold.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

MAX_ID: Final = 100  # characters, UBI's limit for ids and names
MAX_POSITION: Final = 2**31 - 1  # the log store's INTEGER

Id = Annotated[str, msgspec.Meta(max_length=MAX_ID)]
RequiredId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
Ordinal = Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]


class Instant(datetime):
    """A moment in UTC, read from ISO 8601 with a zone or from epoch milliseconds."""

    @classmethod
    def read(cls, value: object) -> "Instant":
        """
        Raises: ValueError, in words for the dead letter, when value is neither or names no moment.
        """
        try:
            if isinstance(value, int) and not isinstance(value, bool):
                return cls.fromtimestamp(value / 1000, UTC)
            if isinstance(value, str):
                moment = cls.fromisoformat(value)
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            pass
        raise ValueError(f"expected ISO 8601 with a zone or epoch milliseconds, got {value!r:.60}")


class UbiQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One search: what was typed, and which documents were shown, in that order."""

    query_id: RequiredId
    user_query: str
    client_id: Id | None = None
    session_id: Id | None = None
    application: Id | None = None
    timestamp: Instant | None = None
    query_response_hit_ids: tuple[str | int, ...] | None = None
    query_attributes: Mapping[str, Any] | None = None


# What is made by the hundred thousand stays out of sight of Python's garbage collector (gc=False): decoded JSON has no
# cycles.


class UbiObject(msgspec.Struct, frozen=True, gc=False):
    """What an event was about; `object_id` is the document."""

    object_id: str | int | None = None


class UbiPosition(msgspec.Struct, frozen=True, gc=False):
    """Where it stood. Applications count `ordinal` from 1, as UBI says, or from 0."""

    ordinal: Ordinal | None = None


class EventAttributes(msgspec.Struct, frozen=True, gc=False):
    """The named part of the attributes; `dwell_seconds` and `rating` are free, so anything may stand there."""

    object: UbiObject | None = None
    position: UbiPosition | None = None
    dwell_seconds: Any = None
    rating: Any = None


class _AboutADocument:
    """What an event says about a document, however it was read."""

    __slots__ = ()
    event_attributes: EventAttributes | None

    @property
    def document_id(self) -> str | None:
        """The document it was about, if any; producers write it as a string or an integer."""
        attributes = self.event_attributes
        about = attributes.object if attributes else None
        object_id = about.object_id if about else None
        return None if object_id is None or object_id == "" else str(object_id)

    @property
    def position(self) -> int | None:
        """
        The place on the page as the producer counts it, from 1 as a rule, or None when it is not known.

        An ordinal of 0 shows an application that counts from 0. Which do is seen only over all of its records, so the
        reader of the log (sql/duckdb/evidence.sql) corrects it.
        """
        place = self.event_attributes.position if self.event_attributes else None
        return place.ordinal if place else None


class UbiEvent(_AboutADocument, msgspec.Struct, frozen=True, kw_only=True):
    """Something a searcher did; without `query_id` it cannot be joined to what was shown."""

    action_name: RequiredId
    query_id: RequiredId
    timestamp: Instant
    client_id: Id | None = None
    session_id: Id | None = None
    application: Id | None = None
    event_attributes: EventAttributes | None = None


class UbiRecord(_AboutADocument, msgspec.Struct, kw_only=True, gc=False):
    """
    A query, or an event when it has an action_name, as nearly all producers write them: every field of both is right.

    One look at the bytes is enough for such a record. `timestamp` is text of ISO 8601, as written, or a datetime.
    """

    query_id: RequiredId
    action_name: RequiredId | None = None
    user_query: str | None = None
    client_id: Id | None = None
    session_id: Id | None = None
    application: Id | None = None
    timestamp: Any = None
    query_response_hit_ids: tuple[str | int, ...] | None = None
    query_attributes: Mapping[str, Any] | None = None
    event_attributes: EventAttributes | None = None


def number(value: object) -> float | None:
    """A free attribute as a number, or None when something else stands there."""
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except OverflowError:  # a whole number of more than 308 digits
        return None
