"""
Kafka: UBI records from topics.

In:  the topics, through a consumer group, and the log store's offsets. Out: batches, read by loop.

The log store's offsets are the ones that count, and it is asked for them whenever the group gives out partitions: who
had a partition before may have stored records of it a moment ago. Those of the group are a courtesy to lag monitors.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError, RetriableError

from relevanced.consumers.kafka_client import ANSWER_MS, Setting, client_settings, no_answer, not_begun
from relevanced.consumers.kafka_cutting import cut_batches
from relevanced.consumers.kafka_places import Names, begin_at, beyond_the_end, source_name
from relevanced.daemon.errors import Retry
from relevanced.daemon.records import Batch, RawRecord

POLL_MS: Final = 500  # so that a stop is heard soon
JOIN_SECONDS: Final = 15.0  # brokers let a new group wait about 3 s for further members
SESSION_MS: Final = 10_000  # after which the partitions of a consumer that was killed go to another
MAX_POLL_MS: Final = 60_000  # how long the group waits for a member that does not answer, before it goes on without
ANSWER_GROUP_SECONDS: Final = 2.0  # between polls on behalf of a loop that is at work; far below MAX_POLL_MS
LOOK_SECONDS: Final = 5.0  # between two looks at the stored offsets while nothing comes
COMPARE_SECONDS: Final = 1.0  # between two looks at the topics' ids; a topic does not outgrow its forerunner in that

_logger: Final = structlog.get_logger(__name__)


class _HoldWhenAssigned(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """
    Holds each partition that is given to this consumer until it is known where to begin.

    kafka-python calls this in the thread that also sends the heartbeats, so the log store is not asked here.
    """

    def __init__(self, consumer: KafkaConsumer, placed: dict[TopicPartition, str]) -> None:
        self._consumer, self._placed = consumer, placed

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for place in assigned:
            self._consumer.pause(place)
            self._consumer.seek(place, 0)  # anywhere: without a position kafka-python asks the group for one
            self._placed.pop(place, None)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        for place in revoked:
            self._placed.pop(place, None)


class KafkaSource:
    """
    One member of a consumer group. `poll`, `seek` and `close` belong to one thread, `commit` to any.

    While that thread stores what it polled, however long this takes, a second one answers for it in the group, so that
    nobody takes its partitions for orphaned and no rebalance waits for it.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Sequence[str],
        group: str,
        *,
        stored: Callable[[str], Mapping[str, int]],
        client: Mapping[str, Setting] | None = None,
    ) -> None:
        """
        Args:
            stored: the log store's offsets of a source, as of now; LogStore.offsets.
            client: further settings of kafka-python, by its names.
        Raises: Retry when no broker answers, BadInput when kafka-python cannot use the settings.
        """
        self._servers, self._stored = bootstrap_servers, stored
        settings = {
            "client_id": "relevanced",
            "session_timeout_ms": SESSION_MS,
            "max_poll_interval_ms": MAX_POLL_MS,
            "bootstrap_timeout_ms": ANSWER_MS,
        } | client_settings(KafkaConsumer, client or {})
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap_servers,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="none",  # an offset that is not there is begin_at's affair
                partition_assignment_strategy=[CooperativeStickyAssignor],
                **settings,
            )
        except (KafkaError, ValueError, OSError) as error:
            raise not_begun(bootstrap_servers, error) from error
        self._placed: dict[TopicPartition, str] = {}  # the partitions that are read, by the names they began with
        cut_batches(self._consumer, self._placed)
        self.name = source_name(self._consumer, bootstrap_servers, group)
        self._names = Names(self._consumer)
        self._to_tell: dict[TopicPartition, OffsetAndMetadata] = {}
        self._has_joined = False
        self._known: dict[str, int] = {}  # the stored offsets, as far as this consumer has heard
        self._compared_at = self._looked_at = monotonic()
        self._polled_at = monotonic()
        self._turn, self._closed = threading.Lock(), threading.Event()
        self._consumer.subscribe(list(topics), listener=_HoldWhenAssigned(self._consumer, self._placed))
        self._standing_in = threading.Thread(target=self._stand_in, name=f"{self.name} membership", daemon=True)
        self._standing_in.start()

    def poll(self, max_records: int) -> Batch:
        """
        Return what is there after a short wait; the first poll waits until the group has given out its partitions.

        Raises: Retry when the broker does not answer, or a topic was created anew; StopDaemon when it has lost records
        that are stored.
        """
        with self._turn:
            try:
                self._tell_group()
                found = self._fetch(max_records)
                if not found:
                    self._check_that_the_broker_answers()
                    self._follow_a_replay()
            except KafkaError as error:
                raise self._treated(error) from error
            finally:
                self._polled_at = monotonic()
            records: list[RawRecord] = []
            next_offsets: dict[str, int] = {}
            for place, some in found.items():
                records += some
                next_offsets[self._placed[place]] = some[-1].offset + 1
        return Batch(self.name, records, next_offsets)

    def seek(self, offsets: Mapping[str, int]) -> None:
        """
        Go on from these offsets in the partitions that this consumer has now.

        Raises: as poll.
        """
        with self._turn:
            try:
                self._begin(self._consumer.assignment(), offsets)
            except KafkaError as error:
                raise self._treated(error) from error

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Note what the next poll tells the group, without waiting for its answer."""
        for place, name in list(self._placed.items()):
            if name in offsets:
                self._known[name] = offsets[name]
                self._to_tell[place] = OffsetAndMetadata(offsets[name])

    def close(self) -> None:
        """Leave the group, so that its other members need not wait for this one's silence."""
        self._closed.set()
        self._standing_in.join()
        self._tell_group()
        self._consumer.close(timeout_ms=ANSWER_MS)

    def _fetch(self, max_records: int) -> dict[TopicPartition, list[RawRecord]]:
        deadline = monotonic() + JOIN_SECONDS
        while True:
            had_joined = self._has_joined
            try:
                found: dict[TopicPartition, list[RawRecord]] = self._consumer.poll(POLL_MS, max_records)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                found, had_joined = {}, True
                self._give_up_places(error.args[0])
            if unplaced := self._consumer.assignment() - self._placed.keys():
                self._begin(unplaced, self._stored(self.name))
                self._has_joined = True
            self._refuse_what_is_of_another_topic(found)
            if found or had_joined or monotonic() > deadline:
                return found

    def _begin(self, places: set[TopicPartition], stored: Mapping[str, int]) -> None:
        """
        Let these partitions begin where the log store says; one that was taken away meanwhile is passed over.

        The offsets are read before the broker is asked what it has, so that they lie within it.
        """
        names = self._names.of(places)
        for place, offset in begin_at(self._consumer, names, stored).items():
            try:
                self._consumer.seek(place, offset)
                self._placed[place] = names[place]
                self._known[names[place]] = stored.get(names[place], 0)
                self._consumer.resume(place)
            except (ValueError, KeyError):  # no longer assigned
                self._placed.pop(place, None)

    def _refuse_what_is_of_another_topic(self, found: dict[TopicPartition, list[RawRecord]]) -> None:
        for place in [place for place in found if place not in self._placed]:
            del found[place]
        if found and monotonic() - self._compared_at > COMPARE_SECONDS:
            self._compare_topics(found)

    def _compare_topics(self, places: Iterable[TopicPartition]) -> None:
        """
        Ask whether these partitions are still those that were begun with.

        Raises: Retry when a topic was created anew; the next poll begins it.
        """
        self._compared_at = monotonic()
        names = self._names.of(places)
        changed = {place for place, name in names.items() if self._placed.get(place, name) != name}
        for place in changed:
            self._consumer.pause(place)
            del self._placed[place]
        if changed:
            raise Retry(f"The Kafka topic {next(iter(changed)).topic} was created anew while it was read.")

    def _give_up_places(self, refused: Mapping[TopicPartition, int]) -> None:
        """
        Forget where partitions stand whose offset the broker does not have: removed by retention, or another topic's.

        Raises: StopDaemon when it has lost what came before that offset.
        """
        begins = self._consumer.beginning_offsets(list(refused), timeout_ms=ANSWER_MS)
        for place, name in self._names.of(refused).items():
            if self._placed.pop(place, name) == name and begins[place] < refused[place]:
                raise beyond_the_end(name, refused[place])

    def _check_that_the_broker_answers(self) -> None:
        """
        Ask, for an empty poll says nothing: kafka-python waits in silence for a broker that is away.

        Raises: StopDaemon when a partition ends before the place it is read at, to which some brokers answer nothing.
        """
        if assigned := list(self._consumer.assignment()):
            self._consumer.beginning_offsets(assigned[:1], timeout_ms=ANSWER_MS)
        for place, name in list(self._placed.items()):
            end, offset = self._consumer.highwater(place), self._consumer.position(place, timeout_ms=ANSWER_MS)
            if end is not None and offset is not None and end < offset:
                self._compare_topics([place])
                raise beyond_the_end(name, offset)

    def _follow_a_replay(self) -> None:
        """
        Go back with a partition whose stored offset was set back by `relevanced consume --from`.

        Raises: Retry when the log store is away.
        """
        if monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = monotonic()
        stored = self._stored(self.name)
        back = {place for place, name in self._placed.items() if stored.get(name, 0) < self._known.get(name, 0)}
        self._begin(back, stored)

    def _stand_in(self) -> None:
        while not self._closed.wait(ANSWER_GROUP_SECONDS / 2):
            if monotonic() - self._polled_at < ANSWER_GROUP_SECONDS or not self._turn.acquire(blocking=False):
                continue
            try:
                held = self._consumer.assignment() - self._consumer.paused()
                self._consumer.pause(*held)
                try:
                    self._consumer.poll(0)
                finally:
                    self._consumer.resume(*(held & self._consumer.assignment() & self._placed.keys()))
            except (KafkaError, KeyError) as error:
                _logger.debug("The group did not hear from a consumer at work.", reason=type(error).__name__)
            finally:
                self._turn.release()

    def _tell_group(self) -> None:
        offsets, self._to_tell = self._to_tell, {}
        mine = self._consumer.assignment()
        if offsets := {place: offset for place, offset in offsets.items() if place in mine}:
            self._consumer.commit_async(offsets)

    def _treated(self, error: KafkaError) -> Retry:
        if isinstance(error, RetriableError):
            return Retry(no_answer(self._servers))
        return Retry(f"Kafka at {self._servers} gives {self.name} no records ({type(error).__name__}: {error}).")
