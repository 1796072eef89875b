"""`--from`: where the topics go on, and that a replay counts nothing twice."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from kafka.admin import KafkaAdminClient

from relevanced.consumers import kafka as kafka_module
from relevanced.consumers.kafka_replay import Start, replay_offsets
from relevanced.consumers.kafka_sink import KafkaSink
from relevanced.daemon.config import KafkaPolicy, Settings
from relevanced.daemon.consuming import consume_until_empty, consume_until_stopped
from relevanced.daemon.errors import BadInput
from relevanced.daemon.evidence import read_evidence
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.rehearsal.broker import running_broker
from relevanced.daemon.signals import SignalPolicy
from relevanced.daemon.wiring import Parts


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_broker() as address:
        yield address


def click(query: str, document: str) -> dict[str, object]:
    place = {"object": {"object_id": document}, "position": {"ordinal": 1}}
    return {"action_name": "click", "query_id": query, "timestamp": "2026-01-01T00:00:00Z", "event_attributes": place}


def search(query: str, *documents: str) -> dict[str, object]:
    return {"query_id": query, "user_query": "fever", "client_id": query, "query_response_hit_ids": list(documents)}


def evidence(log_store: LogStore) -> list[tuple[str, int, int, int]]:
    keys = pa.table({"user_query": ["fever"], "query_key": ["fever"]})
    found = read_evidence(log_store, log_store.snapshot(), query_keys=keys, bots=NO_BOTS, signals=SignalPolicy())
    return [(row["document_id"], row["position"], row["shown"], row["clicks"]) for row in found.to_pylist()]


NO_BOTS = pa.table({"actor": pa.array([], pa.string())})


def total(address: str, topics: list[str], start: Start) -> int:
    """The sum of the offsets at which the partitions go on."""
    return sum(replay_offsets(address, topics, "group", start, {})[1].values())


def test_each_way_to_name_a_place_finds_its_offsets(address: str) -> None:
    topics = [f"{uuid4().hex}.queries", f"{uuid4().hex}.events"]
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1} for topic in topics})
    admin.close()
    sink = KafkaSink(address, query_topic=topics[0], event_topic=topics[1])
    sink.write([search(f"q{number}", "d") for number in range(5)])
    time.sleep(0.01)  # the brokers' stamps are whole milliseconds
    between = datetime.now(UTC)
    time.sleep(0.01)
    sink.write([click("q1", "d")] * 3)
    sink.close()
    assert total(address, topics, "beginning") == 0
    assert total(address, topics, "latest") == 8
    assert total(address, topics, 2) == 4  # in each partition
    assert total(address, topics, 100) == 8  # as far as there is
    assert total(address, topics, between) == 5
    assert total(address, topics, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert total(address, topics, datetime(2100, 1, 1, tzinfo=UTC)) == 8


def test_a_replay_stores_again_and_counts_once(
    address: str, new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    name = uuid4().hex
    kafka = KafkaPolicy(
        bootstrap_servers=address, query_topic=f"{name}.queries", event_topic=f"{name}.events", group=name
    )
    parts = Parts(tmp_path, Settings(database_url=new_database_url(), kafka=kafka))
    parts.sink.write([search("q1", "d1", "d2"), click("q1", "d2")])
    source = parts.source_openers()["kafka"]()
    consume_until_empty(source, parts.log_store)
    source.close()
    before = evidence(parts.log_store)
    assert before == [("d1", 1, 1, 0), ("d2", 2, 1, 1)]

    outcome = parts.replay("beginning")
    assert outcome.sentence.startswith(f"{source.name} goes on from beginning in ")
    again = parts.source_openers()["kafka"]()
    assert consume_until_empty(again, parts.log_store).numbers["stored"] == 2
    again.close()
    assert evidence(parts.log_store) == before
    parts.close()


def test_a_click_before_its_query_or_a_week_after_it_counts_and_a_producers_retry_does_not(
    address: str, new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    name = uuid4().hex
    kafka = KafkaPolicy(bootstrap_servers=address, query_topic=f"{name}.q", event_topic=f"{name}.e", group=name)
    parts = Parts(tmp_path, Settings(database_url=new_database_url(), kafka=kafka))
    source = parts.source_openers()["kafka"]()
    early, late = click("q1", "d1"), click("q1", "d2") | {"timestamp": "2026-01-08T00:00:00Z"}
    for records in ([early, early], [search("q1", "d1", "d2", "d3")] * 3, [late, late]):
        parts.sink.write(records)  # each is stored, and in the log, before the next is there
        consume_until_empty(source, parts.log_store)
    source.close()
    assert evidence(parts.log_store) == [("d1", 1, 1, 1), ("d2", 2, 1, 1), ("d3", 3, 1, 0)]
    parts.close()


def test_a_replay_is_followed_by_a_consumer_that_has_nothing_to_do(
    address: str, new_database_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "LOOK_SECONDS", 0.2)
    name, stop = uuid4().hex, threading.Event()
    kafka = KafkaPolicy(bootstrap_servers=address, query_topic=f"{name}.q", event_topic=f"{name}.e", group=name)
    parts = Parts(tmp_path, Settings(database_url=new_database_url(), kafka=kafka))
    parts.sink.write([search("q1", "d1", "d2"), click("q1", "d2")])

    def stored() -> int:
        return int(parts.log_store.read("log_counts", parts.log_store.snapshot())["clicks"][0].as_py())

    with ThreadPoolExecutor(1) as pool:
        at_work = pool.submit(consume_until_stopped, parts.source_openers()["kafka"], parts.log_store, stop)
        for clicks in (1, 2):
            while stored() < clicks:
                assert not at_work.done()
                time.sleep(0.05)
            if clicks == 1:
                parts.replay("beginning")
        stop.set()
        at_work.result(timeout=60)
    assert evidence(parts.log_store) == [("d1", 1, 1, 0), ("d2", 2, 1, 1)]
    parts.close()


def test_topics_that_are_not_there_are_bad_input(address: str) -> None:
    with pytest.raises(BadInput, match="has none of the topics"):
        replay_offsets(address, [], "group", "latest", {})


def test_without_a_broker_there_is_nothing_to_replay(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no broker is set up"):
        Parts(tmp_path, Settings()).replay("beginning")
