"""The log store on a real Postgres: what is visible when, who gives way to whom, what survives."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from relevanced import sql
from relevanced.consumers import loop
from relevanced.consumers.clicks import CLICK
from relevanced.consumers.loop import step
from relevanced.consumers.memory import MemorySource
from relevanced.daemon.errors import BadInput, Retry, StopDaemon
from relevanced.daemon.log_store import LogStore
from tests.lake import Lake


@pytest.fixture
def lake(new_database_url: Callable[[], str], tmp_path: Path) -> Lake:
    return Lake(new_database_url(), tmp_path / "lake")


@pytest.fixture
def log_store(lake: Lake) -> Iterator[LogStore]:
    store = lake.open()
    yield store
    store.close()


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lends sql.duckdb a statement, as the mining half has its own."""
    monkeypatch.setitem(sql.duckdb._by_name, "count_clicks", "SELECT count(*) AS clicks FROM click")
    monkeypatch.setitem(
        sql.duckdb._by_name,
        "clicks_among",
        "SELECT count(*) AS clicks FROM click JOIN wanted USING (document_id) WHERE position <= $position",
    )


def clicks(*documents: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"query_id": "q", "document_id": document, "position": 1} for document in documents], schema=CLICK
    )


def count(store: LogStore, snapshot_id: int) -> int:
    return int(store.read("count_clicks", snapshot_id)["clicks"][0].as_py())


def click(query_id: str) -> dict[str, object]:
    return {
        "action_name": "click",
        "query_id": query_id,
        "timestamp": "2025-01-01T00:00:00Z",
        "event_attributes": {"object": {"object_id": "d"}, "position": {"ordinal": 1}},
    }


def test_rows_and_offsets_become_visible_together(log_store: LogStore, counting: None) -> None:
    with log_store.transaction() as rows:
        rows.append("click", clicks("a", "b"))
        rows.advance("spool", {"one": 10, "two": 20})
        assert log_store.offsets("spool") == {}
        assert count(log_store, log_store.snapshot()) == 0
    assert log_store.offsets("spool") == {"one": 10, "two": 20}
    assert count(log_store, log_store.snapshot()) == 2


def test_a_transaction_that_fails_leaves_nothing(log_store: LogStore, counting: None) -> None:
    def store_and_fail() -> None:
        with log_store.transaction() as rows:
            rows.append("click", clicks("a"))
            rows.advance("spool", {"one": 10})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_and_fail()
    assert log_store.offsets("spool") == {}
    assert count(log_store, log_store.snapshot()) == 0


def test_advancing_replaces_the_offsets_of_these_partitions_alone(lake: Lake, log_store: LogStore) -> None:
    for source, offsets in [("a", {"0": 1, "1": 1}), ("b", {"0": 5}), ("a", {"1": 7, "2": 2})]:
        with log_store.transaction() as rows:
            rows.advance(source, offsets)
    assert log_store.offsets("a") == {"0": 1, "1": 7, "2": 2}
    assert log_store.offsets("b") == {"0": 5}
    assert lake.rows("SELECT count(*) FROM source_offset WHERE source <> ''") == [(4,)]


def test_a_snapshot_reads_the_same_rows_for_ever(log_store: LogStore, counting: None) -> None:
    with log_store.transaction() as rows:
        rows.append("click", clicks("a"))
    snapshot_id = log_store.snapshot()
    with log_store.transaction() as rows:
        rows.append("click", clicks(*(f"d{number}" for number in range(50))))
    assert count(log_store, snapshot_id) == 1
    assert count(log_store, log_store.snapshot()) == 51


def test_a_statement_gets_tables_and_parameters(log_store: LogStore, counting: None) -> None:
    with log_store.transaction() as rows:
        rows.append("click", clicks("a", "b", "c"))
    wanted = pa.table({"document_id": ["a", "c", "z"]})
    found = log_store.read("clicks_among", log_store.snapshot(), {"wanted": wanted}, position=1)
    assert found.to_pylist() == [{"clicks": 2}]


def test_threads_read_while_others_write(log_store: LogStore, counting: None) -> None:
    def write(source: str) -> None:
        for offset in range(1, 6):
            with log_store.transaction() as rows:
                rows.append("click", clicks(*"abcdefghijklmno"))
                rows.advance(source, {"0": offset})

    def read() -> list[int]:
        return [count(log_store, log_store.snapshot()) for _ in range(5)]

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, source) for source in ("s", "t")]
        readers = [pool.submit(read) for _ in range(2)]
        for writer in writers:
            writer.result()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen)
            assert all(number % 15 == 0 for number in seen)
    assert count(log_store, log_store.snapshot()) == 150


def test_of_two_writers_that_overlap_one_gives_way_and_may_repeat(lake: Lake, log_store: LogStore) -> None:
    other = lake.open()

    def overlap() -> None:
        with log_store.transaction() as rows:
            rows.advance("mine", {"0": 1})
            with other.transaction() as others:
                others.advance("theirs", {"0": 1})

    with pytest.raises(Retry, match="Another process wrote"):
        overlap()
    with log_store.transaction() as rows:
        rows.advance("mine", {"0": 1})
    assert (log_store.offsets("mine"), log_store.offsets("theirs")) == ({"0": 1}, {"0": 1})
    other.close()


@pytest.mark.parametrize("flushed", [False, True], ids=["inlined", "in Parquet"])
@pytest.mark.parametrize("begun", [False, True], ids=["first batch", "later batch"])
def test_two_consumers_of_one_partition_cannot_both_store_it(
    lake: Lake, log_store: LogStore, counting: None, begun: bool, flushed: bool
) -> None:
    other = lake.open()
    if begun:
        with log_store.transaction() as rows:
            rows.advance("kafka", {"0": 5})
    if flushed:
        log_store._connection.execute("CALL ducklake_flush_inlined_data('lake')")

    def both_store_it() -> None:
        with log_store.transaction() as rows:
            assert log_store.offsets("kafka") == ({"0": 5} if begun else {})
            with other.transaction() as others:
                others.append("click", clicks("a"))
                others.advance("kafka", {"0": 9})
            rows.append("click", clicks("a"))
            rows.advance("kafka", {"0": 9})

    with pytest.raises(Retry):
        both_store_it()
    assert log_store.offsets("kafka") == {"0": 9}
    assert count(log_store, log_store.snapshot()) == 1
    other.close()


def test_a_consumer_that_comes_back_after_another_took_its_partition_counts_nothing_twice(
    lake: Lake, log_store: LogStore, counting: None
) -> None:
    records = [click(f"q{number}") for number in range(10)]
    paused, successor = MemorySource(records), MemorySource(records)
    step(successor, log_store)
    with pytest.raises(Retry, match="has stored memory memory up to 10; this one was at 0"):
        step(paused, log_store)
    paused.seek(log_store.offsets(paused.name))
    assert step(paused, log_store).verdict == "nothing"
    assert count(log_store, log_store.snapshot()) == 10


def test_a_batch_is_taken_when_its_partition_stands_where_it_begins(log_store: LogStore, counting: None) -> None:
    source = MemorySource([click("q1"), b"no record"])
    assert step(source, log_store).sentence == "Stored 1 records from memory, set 1 aside."
    source.write([click("q2")])
    assert step(source, log_store).numbers == {"source": "memory", "stored": 1, "dead_letters": 0}
    assert count(log_store, log_store.snapshot()) == 2


def test_the_log_store_may_be_created_by_several_at_once(lake: Lake) -> None:
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: lake.open(), range(3)))
    with stores[0].transaction() as rows:
        rows.advance("spool", {"0": 1})
    assert [store.offsets("spool") for store in stores] == [{"0": 1}] * 3
    for store in stores:
        store.close()


def test_a_log_store_that_was_begun_before_devices_were_kept_keeps_them_from_then_on(lake: Lake) -> None:
    source = MemorySource()

    def store(query_id: str, **attributes: str) -> None:
        log_store = lake.open()
        query = {"query_id": query_id, "user_query": "fever", "query_attributes": attributes}
        source.write([query])
        step(source, log_store)
        log_store.close()

    store("without")
    older = lake.open()
    older._connection.execute("ALTER TABLE lake.query DROP COLUMN device")
    older.close()
    store("mobile", device="mobile")
    assert lake.rows("SELECT query_id, device FROM query ORDER BY ALL") == [("mobile", "mobile"), ("without", None)]


def test_a_lost_connection_to_postgres_is_a_retry_and_then_goes_on(lake: Lake, log_store: LogStore) -> None:
    def lose_postgres_before_the_commit() -> None:
        with log_store.transaction() as rows, psycopg.connect(lake.database_url, autocommit=True) as connection:
            rows.advance("spool", {"0": 1})
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    with pytest.raises(Retry):
        lose_postgres_before_the_commit()
    with log_store.transaction() as rows:
        rows.advance("spool", {"0": 2})
    assert log_store.offsets("spool") == {"0": 2}


def test_a_database_that_does_not_answer_is_said_in_one_sentence_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Retry) as caught:
        LogStore.open("postgresql://me:secret@127.0.0.1:1/db", tmp_path / "lake")
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_of_another_home_is_refused(lake: Lake, log_store: LogStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not match existing data path"):
        LogStore.open(lake.database_url, tmp_path / "elsewhere")


def test_a_statement_that_cannot_run_stops_the_daemon(log_store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sql.duckdb._by_name, "wrong", "SELECT colour FROM click")
    with pytest.raises(StopDaemon) as caught:
        log_store.read("wrong", log_store.snapshot())
    assert isinstance(caught.value.__cause__, duckdb.Error)


def test_a_waiting_thread_gets_its_turn_after_the_other(log_store: LogStore) -> None:
    entered, finished = threading.Event(), threading.Event()

    def second() -> None:
        entered.set()
        with log_store.transaction() as rows:
            rows.advance("second", {"0": 1})
        finished.set()

    with log_store.transaction() as rows:
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        rows.advance("first", {"0": 1})
        assert not finished.is_set()
    thread.join()
    assert (log_store.offsets("first"), log_store.offsets("second")) == ({"0": 1}, {"0": 1})


def test_a_writer_waits_for_that_of_another_process_and_not_for_one_that_is_stuck(
    lake: Lake, log_store: LogStore
) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    def write(offset: int) -> None:
        with log_store.transaction() as rows:
            rows.advance("spool", {"one": offset})

    with ThreadPoolExecutor(1) as pool, psycopg.connect(lake.database_url, autocommit=True) as watcher:
        with psycopg.connect(lake.database_url, autocommit=True) as other:
            other.execute(sql.postgres["take_turn"])
            done = pool.submit(write, 1)
            while watcher.execute(waiting).fetchall() != [(1,)]:
                assert not done.done()
        done.result()
        with psycopg.connect(lake.database_url, autocommit=True) as stuck:
            stuck.execute(sql.postgres["take_turn"])
            write(2)
    assert log_store.offsets("spool") == {"one": 2}


def test_two_consumers_with_a_log_store_each_both_finish(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two processes do, each with a DuckDB of its own: they give way to one another, and neither for good."""
    monkeypatch.setattr(loop, "MAX_RECORDS", 5)
    stores = [lake.open(), lake.open()]
    both_begin = threading.Barrier(2)

    def consume(store: LogStore, name: str) -> None:
        stop = threading.Event()

        class Source(MemorySource):
            def commit(self, offsets: Mapping[str, int]) -> None:
                if offsets == {"memory": 40}:
                    stop.set()

        source = Source([click(f"{name}{number}") for number in range(40)])
        source.name = name
        both_begin.wait()
        loop.run(source, store, stop)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(consume, store, name) for store, name in zip(stores, "ab", strict=True)]:
            done.result()
    counted = lake.rows("SELECT count(*), count(DISTINCT query_id) FROM click")
    assert counted == [(80, 80)]
    for store in stores:
        store.close()
