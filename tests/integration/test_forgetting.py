"""A person is forgotten: what names them is in the state directory and in Postgres before, and nowhere after."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from relevanced.consumers.loop import step
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.spool import SpoolWriter
from relevanced.daemon.cli import app
from relevanced.daemon.config import load_settings
from relevanced.daemon.consuming import consume_until_stopped
from relevanced.daemon.mined_with import FOLDER
from relevanced.daemon.privacy import keys, protected_id
from relevanced.daemon.upkeep import keep_up
from relevanced.daemon.wiring import Parts

CLIENT, TEXT = "client-Zacharias-1", "why does zacharias cough at night"


@pytest.fixture
def parts(new_home: Callable[[], Path]) -> Iterator[Parts]:
    parts = Parts(new_home(), load_settings(None))
    yield parts
    parts.close()


def query(number: int, text: str, client: str | None, session: str | None = None) -> dict[str, object]:
    return {
        "query_id": f"q{number}",
        "user_query": text,
        "client_id": client,
        "session_id": session,
        "timestamp": "2026-01-01T00:00:00Z",
        "query_response_hit_ids": ["d1"],
    }


def click(query_id: str, client: str | None) -> dict[str, object]:
    return {
        "action_name": "click",
        "query_id": query_id,
        "client_id": client,
        "timestamp": "2026-01-01T00:00:09Z",
        "event_attributes": {"object": {"object_id": "d1"}, "position": {"ordinal": 1}},
    }


def store(parts: Parts, *records: object) -> None:
    source = MemorySource(records)  # type: ignore[arg-type]
    source.name = uuid4().hex
    step(source, parts.log_store)


def places(parts: Parts, needle: str) -> list[str]:
    """Every file of the state directory with these bytes or, in Parquet, this value; and every row of Postgres."""
    found = []
    for file in sorted(path for path in parts.home.rglob("*") if path.is_file()):
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data += json.dumps(pq.ParquetFile(file).read().to_pylist(), default=str).encode()
        if needle.encode() in data:
            found.append(str(file.relative_to(parts.home)))
    with psycopg.connect(parts.database.url) as postgres:
        tables = postgres.execute("SELECT schemaname, tablename FROM pg_tables").fetchall()
        for schema, table in tables:
            statement = psycopg.sql.SQL("SELECT count(*) FROM {} AS one WHERE one::text LIKE %s")
            named = statement.format(psycopg.sql.Identifier(schema, table))
            ((count,),) = postgres.execute(named, [f"%{needle}%"]).fetchall()
            found += [f"{schema}.{table}"] * count
    return found


def hashes(parts: Parts, raw_id: str) -> list[str]:
    with parts.database.connection() as connection:
        return [protected_id(raw_id, number, key) for number, key in keys(connection, 90).items()]


def forget(parts: Parts, *arguments: str) -> dict[str, object]:
    answer = CliRunner().invoke(app, ["--home", str(parts.home), "forget", *arguments, "--yes", "--json"])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def rows(parts: Parts, table: str) -> list[tuple[object, ...]]:
    with parts.log_store.maintenance() as cursor:
        return cursor.execute(f"SELECT query_id, client_id IS NULL FROM lake.{table} ORDER BY ALL").fetchall()


@pytest.mark.parametrize("inlined", [True, False], ids=["small commits", "large commits"])
def test_no_byte_of_a_forgotten_person_is_found_anywhere(parts: Parts, inlined: bool) -> None:
    crowd = [query(number, f"text {number % 7}", f"other-{number}") for number in range(99, 104 if inlined else 160)]
    store(parts, query(1, TEXT, CLIENT, "s-zach"), click("q1", CLIENT), click("q1", None), *crowd)
    store(parts, query(2, "text 1", CLIENT), {"user_query": TEXT, "client_id": CLIENT})  # the second is a dead letter
    parts.sink.write([query(3, TEXT, CLIENT), query(4, "text 2", "other-4")])  # it stays open, as a daemon's does
    mined = parts.home / "cycles" / "1"
    (mined / FOLDER).mkdir(parents=True)
    table = pa.table({"query_key": [TEXT, "text 1"], "anchor": [TEXT, "text 1"], "weight": [1.0, 1.0]})
    pq.write_table(table, mined / "triplets.parquet")
    pq.write_table(table.select(["query_key"]), mined / FOLDER / "ranks.parquet")
    manifest = Jsonb({"snapshot_id": parts.log_store.snapshot()})
    with parts.database.connection() as connection:
        connection.execute("INSERT INTO relevanced.version (version_id, manifest) VALUES (1, %s)", [manifest])
    (hashed,) = hashes(parts, CLIENT)
    needles = (CLIENT, TEXT, hashed)
    before = {needle: len(places(parts, needle)) for needle in needles}
    assert all(before.values())

    said = forget(parts, "--client", CLIENT)

    after = {needle: places(parts, needle) for needle in needles}
    print(json.dumps({"places_before": before, "places_after": {name: len(found) for name, found in after.items()}}))  # noqa: T201
    assert after == {needle: [] for needle in needles}
    assert said["versions"] == [1]
    assert [name for name, _ in rows(parts, "query")] == sorted(["q4", *(str(one["query_id"]) for one in crowd)])
    assert pq.read_table(mined / "triplets.parquet")["anchor"].to_pylist() == ["text 1"]
    assert pq.read_table(mined / FOLDER / "ranks.parquet")["query_key"].to_pylist() == ["text 1"]
    parts.sink.write([query(5, "text 3", "other-5")])
    answer = CliRunner().invoke(app, ["--home", str(parts.home), "consume", "--until-empty"])
    assert answer.exit_code == 0, answer.output
    assert len(rows(parts, "query")) == len(crowd) + 2  # nothing was counted twice, and nothing lost


def test_forgetting_a_session_leaves_the_rest_of_its_client(parts: Parts) -> None:
    store(parts, query(1, "a", "c1", "s1"), query(2, "b", "c1", "s2"), query(3, "c", None, "s1"))
    assert forget(parts, "--session", "s1")["removed"]["query"] == 2  # type: ignore[index]
    assert rows(parts, "query") == [("q2", False)]


def test_a_forgetting_that_was_killed_is_ended_by_the_next(parts: Parts) -> None:
    store(parts, query(1, TEXT, CLIENT))
    with parts.database.connection() as connection:
        connection.execute("INSERT INTO relevanced.forgetting (removed_rows, version_ids) VALUES (9, '{4}')")
    assert forget(parts, "--client", CLIENT)["versions"] == [4]
    assert forget(parts, "--client", CLIENT)["versions"] == []


def test_an_unknown_person_and_a_wrong_confirmation_change_nothing(parts: Parts) -> None:
    store(parts, query(1, "a", "c1"))
    assert sum(forget(parts, "--client", "nobody")["removed"].values()) == 0  # type: ignore[attr-defined]
    answer = CliRunner().invoke(app, ["--home", str(parts.home), "forget", "--client", "c1"], input="c2\n")
    assert "nothing was removed" in str(answer.exception)
    assert len(rows(parts, "query")) == 1


def test_many_small_commits_end_in_few_files_with_the_same_rows(parts: Parts) -> None:
    for batch in range(12):
        store(parts, *(query(100 * batch + number, "a", "c") for number in range(20)))
    cycle_snapshot = parts.log_store.snapshot()
    with parts.database.connection() as connection:
        connection.execute("INSERT INTO relevanced.cycle (trigger, snapshot_id) VALUES ('t', %s)", [cycle_snapshot])
    store(parts, *(query(5000 + number, "b", "c") for number in range(20)))
    lake = parts.home / "lake" / "main" / "query"
    later = datetime.now(UTC) + timedelta(hours=3)
    keep_up(parts.database, parts.log_store, parts.settings.privacy, later, lambda *_: None)
    store(parts, query(9999, "c", "c"))
    keep_up(parts.database, parts.log_store, parts.settings.privacy, later, lambda *_: None)
    assert len(rows(parts, "query")) == 261
    assert len(list(lake.glob("*.parquet"))) <= 3
    known = parts.log_store.read(
        "typed_queries", cycle_snapshot, {"bots": pa.table({"actor": pa.array([], pa.string())})}, min_actors=1
    )
    assert known["user_query"].to_pylist() == ["a"]


def test_rows_past_their_time_go_and_their_keys_with_them(parts: Parts) -> None:
    store(parts, query(1, "old", "c"))
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.privacy_key SET created_at = now() - interval '100 days'")
    new_keys = hashes(parts, "c")
    assert len(new_keys) == 2
    later = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=761)
    outcome = keep_up(parts.database, parts.log_store, parts.settings.privacy, later, lambda *_: None)
    assert outcome.numbers["dropped_rows"] == 1
    assert rows(parts, "query") == []


def test_rows_of_no_time_or_a_time_to_come_go_by_when_they_came_in(parts: Parts) -> None:
    timeless = {name: value for name, value in query(1, "a", "c").items() if name != "timestamp"}
    store(parts, timeless, query(2, "b", "c") | {"timestamp": "2199-01-01T00:00:00Z"})
    now, days = datetime.now(UTC), parts.settings.privacy.retention_days
    for after, dropped in [(days - 1, 0), (days + 1, 2)]:
        later = now + timedelta(days=after)
        outcome = keep_up(parts.database, parts.log_store, parts.settings.privacy, later, lambda *_: None)
        assert outcome.numbers["dropped_rows"] == dropped


def test_the_spool_of_others_is_named_and_left(parts: Parts) -> None:
    file = parts.home / "spool" / "theirs.jsonl"
    SpoolWriter(parts.home / "spool").close()
    file.write_text(json.dumps(query(1, TEXT, CLIENT)) + "\n")
    said = forget(parts, "--client", CLIENT)
    assert str(file) in said["yours_to_do"][0]  # type: ignore[index]
    assert CLIENT in file.read_text()


def test_a_consumer_at_work_loses_nothing_and_doubles_nothing_while_a_person_is_forgotten(parts: Parts) -> None:
    beside, stop, is_forgotten = Parts(parts.home, load_settings(None)), threading.Event(), threading.Event()
    writer = SpoolWriter(parts.home / "spool")
    writer.write([query(0, TEXT, CLIENT)])  # the first line, by which the file is known

    def produce() -> int:
        number = 1
        while not is_forgotten.is_set():
            writer.write([query(number, f"text {number % 7}", f"other-{number}")])
            number += 1
        return number - 1

    def stored() -> list[tuple[object, ...]]:
        return rows(parts, "query")

    with ThreadPoolExecutor(2) as pool:
        open_spool = beside.source_openers()["spool"]
        consuming = pool.submit(consume_until_stopped, open_spool, beside.log_store, stop)
        producing = pool.submit(produce)
        try:
            while len(stored()) < 20:
                assert not consuming.done(), consuming.exception()
                time.sleep(0.01)
            command = [sys.executable, "-m", "relevanced.daemon", "--home", str(parts.home)]
            wish = ["forget", "--client", CLIENT, "--yes", "--json"]
            done = subprocess.run([*command, *wish], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            is_forgotten.set()
            written = producing.result(timeout=60)
            while len(stored()) < written:
                assert not consuming.done(), consuming.exception()
                time.sleep(0.01)
        finally:
            is_forgotten.set()
            stop.set()
            consuming.result(timeout=60)
    assert sorted(query_id for query_id, _ in stored()) == sorted(f"q{number}" for number in range(1, written + 1))
    for needle in (CLIENT, TEXT, *hashes(parts, CLIENT)):
        assert places(parts, needle) == []
    writer.close()
    beside.close()
