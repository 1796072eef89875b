"""
Kafka: UBI records from topics, and our own into them.

In:  the topics of queries and events, through a consumer group. Out: batches, read by loop.

A partition is called topic:partition. The log store's offsets are the ones that count; those of the group are a
courtesy to lag monitors.
"""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

import msgspec
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.records import Batch, RawRecord

POLL_MS: Final = 500  # so that a stop is heard soon
JOIN_SECONDS: Final = 15.0  # brokers let a new group wait about 3 s for further members
ANSWER_MS: Final = 5_000  # a broker that is silent for longer does not answer
SESSION_MS: Final = 10_000  # after which the partitions of a consumer that was killed go to another


class _SeekWhenAssigned(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Begins each partition where the log store says, whatever the group has committed."""

    def __init__(self, source: "KafkaSource") -> None:
        self._source = source

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._source.take_over(assigned)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        pass


class KafkaSource:
    """One member of a consumer group."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str], group: str) -> None:
        """
        Raises: BadInput when no broker answers.
        """
        self.name = f"kafka:{group}"
        self._servers = bootstrap_servers
        self._stored: dict[str, int] = {}  # as far as this consumer knows; another may be further
        self._has_joined = False
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap_servers,
                client_id="relevanced",
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where retention has removed what comes next
                session_timeout_ms=SESSION_MS,
                bootstrap_timeout_ms=ANSWER_MS,
            )
        except (KafkaError, ValueError, OSError) as error:
            raise BadInput(_no_answer(bootstrap_servers)) from error
        self._consumer.subscribe(list(topics), listener=_SeekWhenAssigned(self))

    def poll(self, max_records: int) -> Batch:
        """
        Return what is there after a short wait; the first poll waits until the group has given out its partitions.

        Raises: Retry when the broker does not answer, or when a partition begins again.
        """
        try:
            found = self._fetch(max_records)
            if not found:
                self._check_that_the_broker_answers()
        except KafkaError as error:
            raise Retry(_no_answer(self._servers)) from error
        records: list[RawRecord] = []
        next_offsets: dict[str, int] = {}
        for place, messages in found.items():
            partition = _name(place)
            self._refuse_what_is_stored(partition, messages[0].offset)
            records += [RawRecord(partition, message.offset, message.value or b"") for message in messages]
            next_offsets[partition] = messages[-1].offset + 1
        return Batch(self.name, records, next_offsets)

    def seek(self, offsets: Mapping[str, int]) -> None:
        """
        Go on from these offsets, now and in the partitions that are assigned later.

        Raises: Retry when the group takes a partition away at this moment.
        """
        self._stored = dict(offsets)
        try:
            self._begin(self._consumer.assignment())
        except ValueError as error:
            raise Retry(f"The group of {self.name} is giving out its partitions anew.") from error

    def take_over(self, places: set[TopicPartition]) -> None:
        """Go on with what the group has given to this consumer."""
        self._begin(places)
        self._has_joined = True

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Tell the group, without waiting for its answer."""
        self._stored |= offsets
        self._consumer.commit_async(
            {_place(partition): OffsetAndMetadata(offset) for partition, offset in offsets.items()}
        )

    def close(self) -> None:
        """Leave the group, so that its other members need not wait for this one's silence."""
        self._consumer.close(timeout_ms=ANSWER_MS)

    def _begin(self, places: set[TopicPartition]) -> None:
        """Go to where the log store stood when it was last asked; loop sees when another has gone on since."""
        for place in places:
            offset = self._stored.get(_name(place))
            if offset is None:
                self._consumer.seek_to_beginning(place)
            else:
                self._consumer.seek(place, offset)

    def _fetch(self, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        deadline = monotonic() + JOIN_SECONDS
        while True:
            had_joined = self._has_joined
            found: dict[TopicPartition, list[ConsumerRecord]] = self._consumer.poll(POLL_MS, max_records)
            if found or had_joined or monotonic() > deadline:
                return found

    def _check_that_the_broker_answers(self) -> None:
        """An empty poll says nothing: kafka-python waits in silence for a broker that is away."""
        if assigned := list(self._consumer.assignment()):
            self._consumer.beginning_offsets(assigned[:1], timeout_ms=ANSWER_MS)

    def _refuse_what_is_stored(self, partition: str, offset: int) -> None:
        stored = self._stored.get(partition, 0)
        if offset < stored:
            raise Retry(
                f"Kafka {partition} is at {offset:,} again, after {stored:,} were stored;"
                " if the topic was created anew, give [kafka] group another name."
            )


class KafkaSink:
    """Writes records to the topic of their kind; safe to share between threads."""

    def __init__(
        self, bootstrap_servers: str, *, query_topic: str = "ubi.queries", event_topic: str = "ubi.events"
    ) -> None:
        """
        Raises: BadInput when no broker answers.
        """
        self._servers = bootstrap_servers
        self._query_topic, self._event_topic = query_topic, event_topic
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap_servers,
                client_id="relevanced",
                acks="all",
                bootstrap_timeout_ms=ANSWER_MS,
                max_block_ms=ANSWER_MS,
                request_timeout_ms=ANSWER_MS,
                delivery_timeout_ms=2 * ANSWER_MS,  # what was refused by then is given up, not sent late
            )
        except (KafkaError, ValueError, OSError) as error:
            raise BadInput(_no_answer(bootstrap_servers)) from error

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """
        Return once the brokers have acknowledged the records; those of one query_id stay in their order.

        Raises: Retry when they do not; some may have arrived all the same, and a reader of the log takes each once.
        """
        try:
            sent = [
                self._producer.send(
                    self._event_topic if record.get("action_name") else self._query_topic,
                    key=str(record.get("query_id", "")).encode(),
                    value=msgspec.json.encode(record),
                )
                for record in records
            ]
            self._producer.flush()
            for future in sent:
                future.get(timeout=0)
        except KafkaError as error:
            raise Retry(f"Kafka at {self._servers} did not take the records ({type(error).__name__}).") from error

    def close(self) -> None:
        """Let go of the brokers; what was written is with them."""
        self._producer.close(timeout=1)


def _name(place: TopicPartition) -> str:
    return f"{place.topic}:{place.partition}"


def _place(partition: str) -> TopicPartition:
    topic, _, number = partition.rpartition(":")
    return TopicPartition(topic, int(number))


def _no_answer(servers: str) -> str:
    return f"No Kafka broker at {servers} answers; check [kafka] bootstrap_servers and that the broker runs."
