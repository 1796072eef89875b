"""What goes wrong around a Kafka consumer: slow storing, rebalances, other topics, brokers that are away."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import structlog
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from relevanced.consumers import kafka
from relevanced.consumers.kafka import KafkaSource
from relevanced.daemon.errors import Retry, StopDaemon
from relevanced.daemon.rehearsal.broker import running_broker
from tests.sources import ids, next_batch

QUICK = {"session_timeout_ms": 1_000, "heartbeat_interval_ms": 250}


class Topic:
    """One topic with a group, and the offsets that a log store would hold."""

    def __init__(self, address: str, partitions: int = 2) -> None:
        self.address, self.name, self.partitions = address, uuid4().hex, partitions
        self.admin = KafkaAdminClient(bootstrap_servers=address)
        self.producer = KafkaProducer(bootstrap_servers=address, linger_ms=5)
        self.stored: dict[str, int] = {}
        self.create()

    def create(self) -> None:
        self.admin.create_topics({self.name: {"num_partitions": self.partitions, "replication_factor": 1}})

    def delete(self) -> None:
        self.admin.delete_topics([self.name])

    def write(self, *numbers: int) -> None:
        for number in numbers:
            value = b'{"query_id": "q%d", "user_query": "words"}' % number
            self.producer.send(self.name, value, partition=number % self.partitions)
        self.producer.flush()

    def source(self, **client: Any) -> KafkaSource:
        return KafkaSource(
            self.address, [self.name], self.name, stored=lambda source: dict(self.stored), client=QUICK | client
        )

    def take(self, source: KafkaSource) -> list[str]:
        """Store a batch, as the loop does."""
        batch = source.poll(1000)
        self.stored |= batch.next_offsets
        source.commit(batch.next_offsets)
        return ids(batch.records)

    def close(self) -> None:
        self.producer.close()
        self.admin.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_broker() as address:
        yield address


@pytest.fixture
def topic(address: str) -> Iterator[Topic]:
    topic = Topic(address)
    yield topic
    topic.close()


def until(found: Callable[[], object]) -> None:
    while not found():
        time.sleep(0.01)


def test_storing_for_longer_than_the_group_allows_costs_no_membership(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "ANSWER_GROUP_SECONDS", 0.3)
    assigned: list[set[TopicPartition]] = []
    given = kafka._HoldWhenAssigned.on_partitions_assigned
    monkeypatch.setattr(
        kafka._HoldWhenAssigned,
        "on_partitions_assigned",
        lambda self, places: (assigned.append(places), given(self, places))[1],
    )
    topic.write(*range(4))
    source = topic.source(max_poll_interval_ms=1_000)
    first = ids(next_batch(source, 1).records)
    topic.write(*range(4, 8))
    time.sleep(2.5)  # the log store at work
    source.commit({})
    rest: list[str] = []
    while len(rest) < 7:
        rest += ids(source.poll(1000).records)
    assert sorted(first + rest) == [f"q{number}" for number in range(8)]
    assert len(assigned) == 1
    source.close()


def test_a_partition_goes_on_where_whoever_had_it_stored_last(topic: Topic) -> None:
    turn, found, stop = threading.Lock(), Counter[str](), threading.Event()

    def consume(source: KafkaSource) -> None:
        while not stop.is_set():
            batch = source.poll(5)
            with turn:
                if all(topic.stored.get(record.partition, 0) <= record.offset for record in batch.records):
                    topic.stored |= batch.next_offsets
                    found.update(ids(batch.records))
                    continue
                stored = dict(topic.stored)
            source.seek(stored)

    with ThreadPoolExecutor(3) as pool:
        first = topic.source()
        running = [pool.submit(consume, first)]
        topic.write(*range(100))
        until(found.total)
        second = topic.source()
        running.append(pool.submit(consume, second))
        written = 100
        while not (first._placed and second._placed):
            topic.write(written)
            written += 1
        topic.write(*range(written, written + 50))
        until(lambda: found.total() >= written + 50)
        stop.set()
        for one in running:
            one.result()
    assert found == Counter(f"q{number}" for number in range(written + 50))
    first.close()
    second.close()


def test_a_topic_created_anew_while_it_is_read_is_read_from_its_beginning(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "COMPARE_SECONDS", 0.0)
    topic.write(*range(10))
    source, found = topic.source(), []
    while len(found) < 10:
        found += topic.take(source)
    topic.delete()
    topic.create()
    topic.write(*range(10, 30))  # more than were read, so that no offset shows it
    while len(found) < 30:
        try:
            found += topic.take(source)
        except Retry:
            source.seek(topic.stored)
    assert sorted(found) == sorted(f"q{number}" for number in range(30))
    assert len(topic.stored) == 4  # two partitions of each
    source.close()


def test_a_topic_created_anew_between_two_runs_is_read_from_its_beginning(topic: Topic) -> None:
    topic.write(1, 2)
    source, found = topic.source(), []
    while len(found) < 2:
        found += topic.take(source)
    source.close()
    topic.delete()
    topic.create()
    topic.write(3, 4, 5, 6)
    with structlog.testing.capture_logs() as said:
        successor = topic.source()
        while len(found) < 6:
            found += topic.take(successor)
    assert {line["event"] for line in said} == {"A Kafka topic was created anew and is read from its beginning."}
    successor.close()


def test_records_that_retention_took_are_counted_in_the_log_and_reading_goes_on(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.write(*range(0, 20, 2))
    source = topic.source()
    batch = next_batch(source, 3)
    beginning = source._consumer.beginning_offsets
    monkeypatch.setattr(
        source._consumer,
        "beginning_offsets",
        lambda places, **rest: beginning(places, **rest) | dict.fromkeys(places, 7),  # as if it had
    )
    with structlog.testing.capture_logs() as said:
        source.seek(batch.next_offsets)
    lost = [line["lost"] for line in said if "were removed before they were read" in line["event"]]
    assert lost == [7 - len(batch.records)]
    assert ids(next_batch(source, 100).records) == ["q14", "q16", "q18"]
    source.close()


def test_a_partition_that_ends_before_what_is_stored_stops_the_consumer_with_the_remedy(topic: Topic) -> None:
    topic.write(0, 2)
    source = topic.source()
    batch = next_batch(source, 10)
    source.seek(dict.fromkeys(batch.next_offsets, 100))
    with pytest.raises(StopDaemon, match=r"ends before 100, .*consume --from latest"):
        next_batch(source, 10)
    source.close()


def test_the_marks_of_a_compacted_topic_are_no_records(topic: Topic) -> None:
    topic.producer.send(topic.name, key=b"gone", value=None, partition=0)
    topic.write(2)
    source, found = topic.source(), []
    while not found:
        found += topic.take(source)
    assert found == ["q2"]
    assert list(topic.stored.values()) == [2]
    source.close()


def test_a_broker_that_was_away_is_read_on_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "ANSWER_MS", 500)
    with running_broker() as address:
        (broker,) = (child for child in psutil.Process().children() if address in child.cmdline()[3])
        topic = Topic(address)
        topic.write(1, 2)
        source, found = topic.source(request_timeout_ms=2_000), []
        while len(found) < 2:
            found += topic.take(source)
        broker.suspend()
        for _ in range(3):
            with pytest.raises(Retry, match=f"No Kafka broker at {address} answers"):
                source.poll(10)
        broker.resume()
        topic.write(3, 4)
        while len(found) < 4:
            try:
                found += topic.take(source)
            except Retry:
                source.seek(topic.stored)
        assert sorted(found) == ["q1", "q2", "q3", "q4"]
        source.close()
        topic.close()


def test_a_consumer_that_nothing_is_taken_from_holds_no_more_than_a_few_fetches(topic: Topic) -> None:
    """Back-pressure: what is not polled stays with the broker."""
    value = b'{"query_id": "q", "user_query": "%s"}' % (b"x" * 10_000)
    for number in range(4_000):
        topic.producer.send(topic.name, value, partition=number % 2)
    topic.producer.flush()
    source = topic.source(fetch_max_bytes=1_000_000, max_partition_fetch_bytes=500_000)
    next_batch(source, 1)
    before = psutil.Process().memory_info().rss
    for _ in range(5):
        next_batch(source, 1)
        time.sleep(0.3)  # time enough for a client that reads on to do so
    assert psutil.Process().memory_info().rss - before < 20_000_000
    source.close()


def test_tls_settings_reach_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker for tests speaks no TLS, so this is a server that ends the connection once it has been greeted."""
    monkeypatch.setattr(kafka, "ANSWER_MS", 2_000)
    certificate, greetings = Path(__file__).with_name("localhost.pem"), []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                greetings.append(connection.recv(1000))
                server.close()  # refuses the next attempt, or kafka-python would wait for its greeting without end

        thread = threading.Thread(target=greet)
        thread.start()
        client = {"security_protocol": "SSL", "ssl_cafile": str(certificate), "client_id": "shop"}
        with pytest.raises(Retry, match="No Kafka broker"):
            KafkaSource(f"127.0.0.1:{server.getsockname()[1]}", ["t"], "g", stored=lambda source: {}, client=client)
        thread.join()
    assert b"shop" in greetings[0]
