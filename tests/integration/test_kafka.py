"""Kafka over a socket: the suite of all sources, and what only a broker can do."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from relevanced.consumers import kafka, kafka_sink
from relevanced.consumers.kafka import KafkaSource
from relevanced.consumers.kafka_sink import KafkaSink
from relevanced.daemon.errors import Retry
from relevanced.daemon.ports import EventSource
from relevanced.daemon.rehearsal.broker import running_broker
from tests.sources import EventSourceSuite, drain, ids, record


def nothing_stored(source: str) -> dict[str, int]:
    return {}


class KafkaTransport:
    """Two topics, and two sources that have joined their groups beforehand: a broker lets each wait for seconds."""

    def __init__(self, address: str) -> None:
        name = uuid4().hex
        self.address, self.topics = address, [f"{name}.queries", f"{name}.events"]
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1} for topic in self.topics})
        admin.close()
        self._sink = KafkaSink(address, query_topic=self.topics[0], event_topic=self.topics[1])
        self.sources = [
            KafkaSource(address, self.topics, f"{name}-{number}", stored=nothing_stored) for number in range(2)
        ]
        self._opened = iter(self.sources)

    def join(self, group: str) -> KafkaSource:
        return KafkaSource(self.address, self.topics, group, stored=nothing_stored)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._sink.write(records)

    def open(self) -> EventSource:
        return next(self._opened)

    def close(self) -> None:
        for part in (*self.sources, self._sink):
            part.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_broker() as address:
        yield address


@pytest.fixture(scope="module")
def transports(address: str) -> Iterator[Iterator[KafkaTransport]]:
    made = [KafkaTransport(address) for _ in range(8)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda source: source.poll(1), [source for transport in made for source in transport.sources]))
    yield iter(made)
    for transport in made:
        transport.close()


@pytest.fixture
def transport(transports: Iterator[KafkaTransport]) -> KafkaTransport:
    return next(transports)


class TestKafka(EventSourceSuite):
    pass


def test_queries_and_events_go_to_their_topics_and_one_query_id_to_one_partition(transport: KafkaTransport) -> None:
    click = {"action_name": "click", "query_id": "q1"}
    transport.write([record(1), click, click, click])
    found, _ = drain(transport.open(), 4, at_a_time=10)
    partitions = {one.partition for one in found}
    assert sorted(partition.partition("@")[0] for partition in partitions) == sorted(transport.topics)


def test_compressed_topics_are_read(transport: KafkaTransport) -> None:
    for compression in ("gzip", "snappy", "lz4", "zstd"):
        producer = KafkaProducer(bootstrap_servers=transport.address, compression_type=compression)
        producer.send(
            transport.topics[0], b'{"query_id": "%s", "user_query": "%s"}' % (compression.encode(), b"x" * 500)
        )
        producer.flush()
        producer.close()
    found, _ = drain(transport.open(), 4, at_a_time=10)
    assert ids(found) == ["gzip", "lz4", "snappy", "zstd"]


def test_the_log_stores_offsets_count_and_not_those_of_the_group(transport: KafkaTransport) -> None:
    transport.write([record(number) for number in range(6)])
    source = transport.sources[0]
    _, offsets = drain(source, 6, at_a_time=10)
    source.commit(offsets)
    source.close()
    successor = transport.join(source.name.removeprefix("kafka:").partition("@")[0])
    found, _ = drain(successor, 6, at_a_time=10)
    assert len(found) == 6
    successor.close()


def test_a_broker_that_is_not_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kafka, kafka_sink):
        monkeypatch.setattr(module, "ANSWER_MS", 500)
    for part in (
        lambda: KafkaSource("127.0.0.1:1", ["t"], "g", stored=nothing_stored),
        lambda: KafkaSink("127.0.0.1:1"),
    ):
        with pytest.raises(Retry, match=r"No Kafka broker at 127\.0\.0\.1:1 answers"):
            part()


def test_a_broker_that_goes_away_is_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kafka, kafka_sink):
        monkeypatch.setattr(module, "ANSWER_MS", 1_000)
    with running_broker() as address:
        transport = KafkaTransport(address)
        transport.write([record(1)])
        source = transport.open()
        drain(source, 1, at_a_time=10)
    with pytest.raises(Retry, match="answers"):
        source.poll(10)
    with pytest.raises(Retry, match="did not take the records"):
        transport.write([record(2)])
    transport.close()
