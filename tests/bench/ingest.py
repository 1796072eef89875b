"""
How fast records get from a Kafka-protocol broker into the log store, beside a loop that only polls them.

300,000 UBI records, a quarter of them queries with ten hits, lz4, in two partitions. `python -m tests.bench.ingest`
polls them with a bare KafkaConsumer, ingests them with one process, and with two; each of these is a process of its
own, whose clock starts when it has its partitions and is told to begin, and stops when the last offset is stored. The
last line is the JSON object. --records N and --rounds N make it smaller, or take the median of more rounds.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psutil
import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from psycopg.conninfo import make_conninfo

from relevanced.consumers import loop
from relevanced.consumers.kafka import KafkaSource
from relevanced.daemon.database import Database
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.rehearsal.broker import running_broker

TOPIC = "ubi"
PARTITIONS = 2


def records(count: int) -> Iterator[bytes]:
    """A query with ten hits, then three events about it."""
    rng = random.Random(0)
    words = [f"word{number}" for number in range(2000)]
    query_id, who, hits = "", {}, []
    for number in range(count):
        if number % 4 == 0:
            query_id = f"{rng.getrandbits(128):032x}"
            client = f"client-{rng.randrange(5000)}"
            who = {"application": "shop", "client_id": client, "session_id": f"session-{client}"}
            hits = [f"doc-{rng.randrange(100_000)}" for _ in range(10)]
            record: dict[str, Any] = {
                "query_id": query_id,
                "user_query": " ".join(rng.sample(words, 3)),
                "timestamp": "2025-01-24T07:31:30.699+00:00",
                "object_id_field": "_id",
                "query_response_id": f"r{query_id}",
                "query_response_hit_ids": hits,
                "query_attributes": {"version": "7"},
            }
        else:
            place = rng.randrange(10)
            record = {
                "query_id": query_id,
                "action_name": rng.choice(["impression", "click", "purchase"]),
                "timestamp": "2025-01-24T07:31:31.123Z",
                "message_type": "INFO",
                "message": "shown",
                "event_attributes": {
                    "object": {"object_id": hits[place], "object_id_field": "_id"},
                    "position": {"ordinal": place + 1},
                },
            }
        yield msgspec.json.encode(who | record)


def produce(servers: str, count: int) -> None:
    KafkaAdminClient(bootstrap_servers=servers).create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    producer = KafkaProducer(bootstrap_servers=servers, compression_type="lz4", linger_ms=100, batch_size=500_000)
    for number, value in enumerate(records(count)):
        producer.send(TOPIC, value=value, partition=number * PARTITIONS // count)
    producer.flush()
    producer.close()


def poll(servers: str, count: int) -> dict[str, Any]:
    """Only poll, as quickly as kafka-python does."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest")
    places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    consumer.assign(places)
    while not consumer.poll(500):
        pass
    consumer.seek_to_beginning(*places)
    begun = begin_together()
    seen = 0
    while seen < count:
        seen += sum(len(found) for found in consumer.poll(500, loop.MAX_RECORDS).values())
    return {"begun": begun, "ended": time.monotonic(), "rss": []}


class TimedSource(KafkaSource):
    """Knows when the loop told it last that something is stored."""

    ended = 0.0

    def commit(self, offsets: Mapping[str, int]) -> None:
        self.ended = time.monotonic()
        super().commit(offsets)


def ingest(servers: str, count: int, database_url: str, home: str, group: str) -> dict[str, Any]:
    """One member of the group, until the group has stored all."""
    log = LogStore.open(database_url, Path(home))
    log.only_write()  # as `relevanced consume` does
    source = TimedSource(servers, [TOPIC], group, stored=log.offsets)
    while not source.poll(1).records:
        pass
    memory: list[int] = []
    stop, process = threading.Event(), psutil.Process()

    def watch() -> None:
        while not stop.wait(0.05):
            memory.append(process.memory_info().rss)
            # A look into the store costs as much as storing some hundred records, so it waits for a pause.
            if time.monotonic() - source.ended > 1 and sum(log.offsets(source.name).values()) >= count:
                stop.set()

    begun = begin_together()
    watcher = threading.Thread(target=watch)
    watcher.start()
    loop.run(source, log, stop)
    watcher.join()
    source.close()
    log.close()
    return {"begun": begun, "ended": source.ended, "rss": memory}


def begin_together() -> float:
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    return time.monotonic()


def run(processes: int, *arguments: str) -> dict[str, Any]:
    """Start so many processes, let them begin together, and say how long all took."""
    command = [sys.executable, "-m", "tests.bench.ingest", *arguments]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    finally:
        for process in started:
            process.kill()
    memory = answers[0]["rss"]
    third = len(memory) // 3
    return {
        "seconds": max(answer["ended"] for answer in answers) - min(answer["begun"] for answer in answers),
        "growth_mb": (statistics.mean(memory[-third:]) - statistics.mean(memory[:third])) / 1e6 if third else 0.0,
    }


def measure(servers: str, count: int, home: Path, postgres: str) -> Mapping[str, float]:
    def ingested(processes: int) -> dict[str, Any]:
        name = f"bench_{uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = make_conninfo(postgres, dbname=name)
        Database.open(url, home / name).close()  # the keys of privacy lie there
        LogStore.open(url, home / name).close()
        found = run(processes, "ingest", servers, str(count), url, str(home / name), name)
        store = LogStore.open(url, home / name)
        tables = ("query", "impression", "click", "feedback")
        total = " + ".join(f"(SELECT count(*) FROM lake.{table})" for table in tables)
        assert store._connection.execute(f"SELECT {total}").fetchall() == [(count,)], "a record was lost or doubled"
        store.close()
        return found

    bare = run(1, "poll", servers, str(count))["seconds"]
    one = ingested(1)
    two = ingested(2)
    bare = (bare + run(1, "poll", servers, str(count))["seconds"]) / 2
    return {
        "bare_poll_per_s": count / bare,
        "ingest_per_s": count / one["seconds"],
        "ratio": bare / one["seconds"],
        "two_process_ratio": one["seconds"] / two["seconds"],
        "rss_growth_mb": one["growth_mb"],
    }


def bench(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="relevanced-bench-") as folder, running_broker() as servers:
        postgres = start_embedded(Path(folder))
        produce(servers, count)
        found = []
        for _ in range(rounds):
            found.append(measure(servers, count, Path(folder), postgres))
            print(json.dumps(found[-1]), flush=True)  # noqa: T201
        digits = {"ratio": 2, "two_process_ratio": 2, "rss_growth_mb": 1}
        medians = {name: round(statistics.median(one[name] for one in found), digits.get(name)) for name in found[0]}
        print(json.dumps({"bench": "ingest", **medians}))  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["poll"]:
        print(json.dumps(poll(sys.argv[2], int(sys.argv[3]))))  # noqa: T201
    elif sys.argv[1:2] == ["ingest"]:
        print(json.dumps(ingest(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])))  # noqa: T201
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--records", type=int, default=300_000)
        parser.add_argument("--rounds", type=int, default=1)
        chosen = parser.parse_args()
        bench(chosen.records, chosen.rounds)
