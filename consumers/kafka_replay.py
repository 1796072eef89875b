"""
Where a replay begins: `relevanced consume --from beginning|latest|OFFSET|TIMESTAMP|DURATION`.

In:  what the operator wrote, and the topics. Out: an offset for each partition, for the log store to take as its own.

Records that are read a second time are stored a second time; whoever reads the log counts each once.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Literal

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from relevanced.consumers.kafka_client import ANSWER_MS, Setting, client_settings, not_begun
from relevanced.consumers.kafka_places import Names, source_name
from relevanced.daemon.errors import BadInput

Start = Literal["beginning", "latest"] | int | datetime  # an int is an offset

_DURATION: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS: Final = (
    "write beginning, latest, an offset such as 1200, a moment with its zone such as 2026-01-31T00:00Z, or how long ago"
    " such as 90m, 12h or 7d"
)


def read_start(text: str, now: datetime) -> Start:
    """
    Understand what stands behind --from.

    Raises: BadInput, which says what may stand there.
    """
    if text == "beginning":
        return "beginning"
    if text == "latest":
        return "latest"
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        if found := _DURATION.fullmatch(text):
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        if (moment := datetime.fromisoformat(text)).tzinfo is not None:
            return moment
    except (ValueError, OverflowError):
        pass
    raise BadInput(f"--from {text} is no place to begin at; {_FORMS}.")


def replay_offsets(
    bootstrap_servers: str, topics: Sequence[str], group: str, start: Start, client: Mapping[str, Setting]
) -> tuple[str, dict[str, int]]:
    """
    The name of the source, and for each partition of its topics the offset that `start` means.

    An offset that a partition does not have means the nearest one it has; a moment, its first record from then on.
    Raises: Retry when no broker answers, BadInput when there is none of the topics.
    """
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            **({"client_id": "relevanced", "bootstrap_timeout_ms": ANSWER_MS} | client_settings(KafkaConsumer, client)),
        )
        try:
            places = [
                TopicPartition(topic, number)
                for topic in topics
                for number in sorted(consumer.partitions_for_topic(topic))
            ]
            if not places:
                raise BadInput(f"Kafka at {bootstrap_servers} has none of the topics {', '.join(topics)}.")
            consumer.assign(places)
            names = Names(consumer).of(places)
            offsets = _offsets(consumer, places, start)
            name = source_name(consumer, bootstrap_servers, group)
        finally:
            consumer.close(timeout_ms=ANSWER_MS)
    except (KafkaError, ValueError, OSError) as error:
        raise not_begun(bootstrap_servers, error) from error
    return name, {names[place]: offset for place, offset in offsets.items()}


def _offsets(consumer: KafkaConsumer, places: Sequence[TopicPartition], start: Start) -> dict[TopicPartition, int]:
    begins: dict[TopicPartition, int] = consumer.beginning_offsets(places, timeout_ms=ANSWER_MS)
    if start == "beginning":
        return begins
    ends = _ends(consumer, places)
    if isinstance(start, int):
        return {place: min(max(start, begins[place]), ends[place]) for place in places}
    if start == "latest":
        return ends
    moment = int(start.timestamp() * 1000)
    found = consumer.offsets_for_times(dict.fromkeys(places, moment), timeout_ms=ANSWER_MS)
    return {
        place: first.offset if (first := found.get(place)) is not None and first.timestamp >= 0 else ends[place]
        for place in places
    }


def _ends(consumer: KafkaConsumer, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The offsets of the next records, as a fetch says them; asked directly, Tansu says where its last batch begins."""
    ends: dict[TopicPartition, int] = consumer.end_offsets(places, timeout_ms=ANSWER_MS)
    for place, end in ends.items():
        consumer.seek(place, end)
    until = monotonic() + ANSWER_MS / 1000
    while any(consumer.highwater(place) is None for place in places) and monotonic() < until:
        consumer.poll(100)
    return {place: max(end, consumer.highwater(place) or 0) for place, end in ends.items()}
