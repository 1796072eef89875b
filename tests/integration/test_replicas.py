"""Promotion over several processes that search, real ones: a model, one Postgres and documents that change."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row
from structlog.testing import capture_logs

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import FailStep, Interrupted
from relevanced.daemon.promotion import Promotion, PromotionPolicy
from relevanced.daemon.records import Serving
from relevanced.daemon.replica import Replica
from relevanced.daemon.status import status_of, status_sentences
from tests.bench.promotion import World, check, drive, going_on, load, new_world, sentence

HASTY = PromotionPolicy(patience_seconds=1.0, silence_seconds=0.5)
ADA = {"actor": "ada", "reason": "better"}


@pytest.fixture(scope="module")
def world(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Version 1 is live in two processes; versions are beside it that no process has loaded."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_replicas")
    home = tmp_path_factory.mktemp("replicas")
    url = make_conninfo(postgres, dbname="test_replicas")
    (home / "relevanced.toml").write_text(f'database_url = "{url}"\n[promotion]\nsilence_seconds = 1.0\n')
    with new_world(home, documents=60, replicas=2) as world:
        yield world
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE test_replicas WITH (FORCE)")


@pytest.fixture
def unknown(world: World) -> int:
    """A verified version that no process has ready."""
    database, serving = world.parts.database, world.parts.promotion.serving()
    known = {serving.live_version_id, serving.previous_version_id}
    verified = [one.version_id for one in history.versions(database) if one.state == "verified"]
    version_id = next((number for number in verified if number not in known), None)
    if version_id is None:
        return new_verified_version(world)
    while any(version_id in row["ready_version_ids"] for row in history.replicas(database)):
        time.sleep(0.02)  # they let go of it at their next beat
    return version_id


def new_verified_version(world: World) -> int:
    version_id = world.new_version()
    world.prepare(version_id)
    return version_id


def promotion_of(world: World, policy: PromotionPolicy = HASTY) -> Promotion:
    return Promotion(world.parts.database, policy=policy)


def announced(world: World) -> int:
    with world.parts.database.connection() as connection:
        (row,) = connection.execute("SELECT count(*) AS announced FROM relevanced.announcement")
    return int(row["announced"])


def test_no_search_fails_and_none_mixes_versions_while_the_pointer_moves(world: World) -> None:
    """The long form is `make bench-promotion`."""
    line = drive(world, 300)
    assert line["queries"] >= 300
    broken = {name: line[name] for name in ("failed", "mixed", "missing_documents", "stale_documents")}
    assert broken == dict.fromkeys(broken, 0)
    assert {one.version_id for one in world.answers} == {1, 2}
    for one in [one for one in world.answers if one.version_id == 2][:20]:
        one.version_id = 1  # as if the other encoder had made the query's vector
    assert check(world)["mixed"] == 20
    del world.answers[:]


def test_a_frozen_process_is_not_waited_for_and_wakes_up_in_the_new_space(world: World, unknown: int) -> None:
    before = world.parts.promotion.serving().live_version_id
    (url, process), _ = world.replicas
    with load(world, [sentence(-number) for number in range(1, 20)]):
        while len(world.answers) < 50:
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        try:
            world.parts.promotion.promote(unknown, **ADA)
            moved = time.monotonic()
            time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGCONT)
        while not any(one.replica == url and one.began > moved for one in world.answers):
            time.sleep(0.02)
    assert all(one.hits is not None for one in world.answers)
    in_flight = [one for one in world.answers if one.replica == url and one.began < moved < one.ended]
    assert in_flight  # and each of them is checked below, whichever version it had come to
    assert {one.version_id for one in in_flight} <= {before, unknown}
    assert {one.version_id for one in world.answers if one.began > moved} == {unknown}
    assert check(world)["mixed"] == 0
    del world.answers[:]


def test_a_process_that_cannot_load_the_model_keeps_the_promotion_from_happening(world: World) -> None:
    unknown = new_verified_version(world)
    before = world.parts.promotion.serving()
    directory = history.version(world.parts.database, unknown).directory
    manifest = (directory / "manifest.json").rename(directory.with_suffix(".away"))
    with pytest.raises(FailStep) as refused:
        promotion_of(world, PromotionPolicy(patience_seconds=1, silence_seconds=1)).promote(unknown, **ADA)
    processes = [
        f"{row['process']} ({directory} is no complete model version" for row in history.replicas(world.parts.database)
    ]
    assert len(processes) == 2
    assert all(process in str(refused.value) for process in processes)
    assert str(refused.value).endswith(f" after 1 s. Version {before.live_version_id} stays live.")
    assert world.parts.promotion.serving() == before
    assert announced(world) == 0
    manifest.rename(directory / "manifest.json")
    assert world.parts.promotion.promote(unknown, **ADA).numbers["live_version"] == unknown


def test_the_status_names_the_processes_and_what_they_have_loaded(world: World) -> None:
    serving = world.parts.promotion.serving()
    live = serving.live_version_id
    known = sorted(number for number in (live, serving.previous_version_id) if number)
    while any(row["ready_version_ids"] != known for row in history.replicas(world.parts.database)):
        time.sleep(0.02)
    said = list(status_sentences(status_of(world.parts.database, world.parts.log_store)))
    replicas = [one for one in said if one.startswith("Replica ")]
    assert len(replicas) == 2
    assert all(f"answers by version {live}; loaded: {' and '.join(map(str, known))}." in one for one in replicas)


@pytest.fixture
def in_process(world: World) -> Iterator[Replica]:
    """A replica in this process, which beats and loads when it is told to."""
    replica = Replica(world.parts.database, world.parts.promotion, world.parts.search, HASTY)
    replica.beat()
    while replica.load_next():
        pass
    yield replica
    replica.leave()


def test_only_who_beats_is_waited_for(world: World, unknown: int, in_process: Replica) -> None:
    waited: list[tuple[int, int]] = []

    def beat(_label: str, done: int, total: int, _detail: str = "") -> None:
        waited.append((done, total))
        in_process.beat()  # and it loads nothing

    promotion = promotion_of(world, PromotionPolicy(patience_seconds=1, silence_seconds=1))
    with pytest.raises(FailStep, match=rf"1 of 3 replicas did not have it ready, \S+:{os.getpid()} \(it is still load"):
        promotion.promote(unknown, **ADA, progress=beat)
    assert waited[-1] == (2, 3)
    assert promotion.promote(unknown, **ADA).numbers["live_version"] == unknown  # it went silent


def test_a_rollback_waits_for_nobody_and_finds_the_model_before_loaded(world: World, unknown: int) -> None:
    before = world.parts.promotion.serving().live_version_id
    world.parts.promotion.promote(unknown, **ADA)
    url, _ = world.replicas[0]
    with httpx.Client() as client:
        began = time.monotonic()
        world.parts.promotion.rollback(actor="ada", reason="worse")
        assert world.ask(client, url, "a pain that nobody has asked for").version_id == before
        assert time.monotonic() - began < 1
    with psycopg.connect(world.parts.database.url, autocommit=True) as connection:
        connection.execute("UPDATE relevanced.replica SET ready_version_ids = '{}', seen_at = clock_timestamp()")
    world.parts.promotion.rollback(actor="ada", reason="better")
    assert world.parts.promotion.serving() == Serving(unknown, before)


def test_who_stops_waiting_leaves_no_announcement(world: World, unknown: int, in_process: Replica) -> None:
    def stop(*_: object) -> None:
        raise Interrupted("Stopped.")

    in_process.beat()
    before = world.parts.promotion.serving()
    with pytest.raises(Interrupted):
        world.parts.promotion.promote(unknown, **ADA, progress=stop)
    assert announced(world) == 0
    assert world.parts.promotion.serving() == before


class Pooled(Database):
    """As a PgBouncer that pools transactions: no two of them need share a session."""

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[DictRow]]:
        with psycopg.connect(self.url, row_factory=dict_row, prepare_threshold=None) as connection:
            yield connection


def test_no_two_transactions_need_the_same_session(world: World, unknown: int) -> None:
    database = Pooled(world.parts.database.url, world.parts.database._pool)
    promotion = Promotion(database, policy=HASTY)
    replica = Replica(database, promotion, world.parts.search, HASTY)

    def live() -> None:
        replica.beat()
        replica.load_next()
        time.sleep(0.05)

    with going_on(live):
        assert promotion.promote(unknown, **ADA).numbers["live_version"] == unknown
    replica.leave()


class ReadOnly(Pooled):
    """A server that takes no rows: a standby, or one whose disk is full."""

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[DictRow]]:
        with super().connection() as connection:
            connection.read_only = True
            yield connection


def test_a_server_that_takes_no_rows_does_not_end_the_beating(world: World) -> None:
    database, stop = ReadOnly(world.parts.database.url, world.parts.database._pool), threading.Event()
    replica = Replica(database, Promotion(database), world.parts.search, HASTY)
    with capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        beating = pool.submit(replica.keep_beating, stop)
        time.sleep(0.3)
        stop.set()
        beating.result()
    assert [line["log_level"] for line in logs] == ["warning", "info"]  # said once, however many beats


def test_an_index_is_read_into_the_servers_memory_where_that_can_be_asked_for(world: World) -> None:
    with world.parts.database.connection() as connection:
        connection.execute("CREATE TABLE public.warmed (name text, mode text)")
        connection.execute(
            "CREATE FUNCTION public.pg_prewarm(regclass, text, text, bigint, bigint) RETURNS bigint LANGUAGE sql"
            " AS 'INSERT INTO public.warmed VALUES ($1::text, $2) RETURNING 1'"
        )
    try:
        world.parts.search.warm(1)
        with world.parts.database.connection() as connection:
            rows = connection.execute("SELECT DISTINCT name, mode FROM public.warmed").fetchall()
    finally:
        with world.parts.database.connection() as connection:
            connection.execute("DROP FUNCTION public.pg_prewarm; DROP TABLE public.warmed")
    assert rows == [{"name": "relevanced.embeddings_v1_hnsw", "mode": "buffer"}]


def test_a_process_that_was_killed_blocks_for_a_moment_only(world: World, unknown: int) -> None:
    _, process = world.replicas[1]
    process.kill()
    assert world.parts.promotion.promote(unknown, **ADA).numbers["live_version"] == unknown
