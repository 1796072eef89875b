"""What is added to kept evidence gives, to the last digit, what reading the whole log does, whatever has happened."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from relevanced.daemon import evidence as module
from relevanced.daemon.evidence import FOLDER, drop_evidence, read_evidence
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.signals import SignalPolicy
from tests.lake import Lake

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {
    "query": "query_id user_query client_id session_id application timestamp hit_ids page_offset",
    "impression": "query_id document_id position client_id session_id application timestamp",
    "click": "query_id document_id client_id session_id application timestamp dwell_seconds",
    "feedback": "query_id document_id action client_id session_id application timestamp",
}
TYPES = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "hit_ids": pa.list_(pa.string()),
    "page_offset": pa.int32(),
    "position": pa.int32(),
    "dwell_seconds": pa.float64(),
}


@pytest.fixture(scope="module")
def store(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    store = Lake(make_conninfo(postgres, dbname=name), tmp_path_factory.mktemp("lake")).open()
    yield store
    store.close()


class Traffic:
    """Random batches: new searches of old actors, late clicks, a session of two clients, retries, other pages."""

    def __init__(self, seed: int) -> None:
        self.rng, self.mark, self.searches, self.day = random.Random(seed), f"{seed}-{uuid4().hex[:6]}", [], 0
        self.documents = [f"d{number}" for number in range(4)]

    def batch(self, log_store: LogStore, size: int) -> None:
        rows: dict[str, list[dict[str, object]]] = {name: [] for name in COLUMNS}
        for _ in range(size):
            kind = self.rng.choice(["query", "query", "click", "click", "impression", "feedback"])
            rows[kind].append(self._row(kind))
        with log_store.transaction() as written:
            for name, some in rows.items():
                if some:
                    schema = pa.schema([(column, TYPES.get(column, pa.string())) for column in COLUMNS[name].split()])
                    written.append(name, pa.Table.from_pylist(some, schema=schema))

    def _row(self, kind: str) -> dict[str, object]:
        rng, self.day = self.rng, self.day + 1
        known = self.searches and rng.random() < (0.2 if kind == "query" else 0.95)
        if known:
            row = dict(rng.choice(self.searches))
        else:
            client = rng.choice([*(f"{self.mark}c{number}" for number in range(5)), None])
            session = rng.choice([f"{self.mark}s{rng.randrange(4)}", f"{self.mark}{client}", None])
            row = {"query_id": f"{self.mark}q{self.day}", "client_id": client, "session_id": session}
            row["user_query"] = rng.choice(["fever", "cough", "rash"])
        if kind == "query":
            self.searches.append(row)
            row["hit_ids"] = rng.sample(self.documents, rng.randint(1, 4))
            row["page_offset"] = rng.choice([None, 0, 2])
        elif rng.random() < 0.3:
            row["client_id"] = row["session_id"] = None
        extra = {"document_id": rng.choice(self.documents), "position": rng.randint(1, 4), "action": "purchase"}
        at = WHEN + timedelta(seconds=rng.choice([0, 40, 80, 4000]))
        return {
            **row,
            **extra,
            "application": rng.choice(["shop", None]),
            "timestamp": at,
            "dwell_seconds": rng.choice([3, 40, None]),
        }

    def clients(self, log_store: LogStore) -> list[str]:
        with log_store.maintenance() as cursor:
            found = cursor.execute("SELECT DISTINCT client_id FROM lake.query WHERE client_id IS NOT NULL").fetchall()
        return self.rng.sample(sorted(name for (name,) in found), min(2, len(found)))


def evidence(log_store: LogStore, directory: Path | None, bots: list[str], min_actors: int, **settings) -> pa.Table:
    snapshot_id = log_store.snapshot()
    marked = pa.table({"actor": pa.array(bots, pa.string())})
    typed = log_store.read("typed_queries", snapshot_id, {"bots": marked}, min_actors=min_actors)
    keys = typed.select(["user_query"]).append_column("query_key", typed["user_query"])
    signals = SignalPolicy(**settings)
    return read_evidence(log_store, snapshot_id, query_keys=keys, bots=marked, signals=signals, directory=directory)


ROUND = st.tuples(
    st.integers(0, 25), st.sampled_from(["", "", "bots", "people again", "forgotten", "compacted"]), st.integers(1, 3)
)


@pytest.mark.timeout(600)
# Nothing is shrunk, for the log remembers what earlier examples did.
@settings(
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(seed=3706, rounds=[(0, "", 3), (12, "people again", 2), (11, "forgotten", 3), (25, "forgotten", 3)])
@given(seed=st.integers(0, 10**6), rounds=st.lists(ROUND, min_size=2, max_size=4))
def test_an_increment_is_what_reading_everything_gives(
    store: LogStore, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, seed: int, rounds: list
) -> None:
    monkeypatch.setattr(module, "_MOST", 2.0)  # go on however much is touched
    traffic, directory, bots = Traffic(seed), tmp_path_factory.mktemp("cycles"), []
    traffic.batch(store, 20)
    evidence(store, directory, bots, 1)
    for size, event, min_actors in rounds:
        before = store.snapshot()
        if size:
            traffic.batch(store, size)
        if event == "bots":
            bots = traffic.clients(store)
        elif event == "people again":
            bots = []
        elif event == "forgotten":
            for client in traffic.clients(store):
                with store.maintenance_alone() as cursor:
                    for table in COLUMNS:
                        cursor.execute(f"DELETE FROM lake.{table} WHERE client_id = $client", {"client": client})
        elif event == "compacted":
            with store.maintenance_alone() as cursor:
                cursor.execute("CALL ducklake_flush_inlined_data('lake')")
                cursor.execute("CALL ducklake_merge_adjacent_files('lake')")
        with monkeypatch.context() as patched:
            statements = noting(patched)
            added = evidence(store, directory, bots, min_actors)
        assert added.equals(evidence(store, None, bots, min_actors))
        grown = store.snapshot() > before
        assert statements.count("evidence") in ({0, 2} if grown else {0, 1}), (
            "it read everything, and the log had grown"
        )


def noting(patched: pytest.MonkeyPatch) -> list[str]:
    """The statements that are read from here on."""
    statements, read = [], LogStore.read

    def noted(self: LogStore, name: str, *arguments: Any, **parameters: Any) -> pa.Table:
        statements.append(name)
        return read(self, name, *arguments, **parameters)

    patched.setattr(LogStore, "read", noted)
    return statements


def test_a_cycle_begun_again_takes_what_is_kept_and_other_settings_or_a_forgotten_person_read_everything(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Traffic(0).batch(store, 20)
    first = evidence(store, tmp_path, [], 1)
    statements = noting(monkeypatch)
    assert evidence(store, tmp_path, [], 1).equals(first)
    assert "evidence" not in statements
    for change in ({"reformulation_within": 5.0}, {"lift": {"purchase": 0.1}}, {}):
        statements.clear()
        evidence(store, tmp_path, [], 1, **change)
        assert statements.count("evidence") == 1
        assert len(list((tmp_path / FOLDER).iterdir())) == 1, "one copy is kept, of the last reading"
    drop_evidence(tmp_path)
    statements.clear()
    assert evidence(store, tmp_path, [], 1).equals(first)
    assert statements.count("evidence") == 1


def test_positions_that_turn_out_to_count_from_0_are_read_anew_everywhere(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2.0)  # go on however much is touched

    def show(query_id: str, position: int) -> None:
        common = {
            "query_id": query_id,
            "client_id": query_id,
            "session_id": None,
            "application": "late",
            "timestamp": WHEN,
        }
        searched = {**common, "user_query": "from 0", "hit_ids": None, "page_offset": None}
        shown = {**common, "document_id": "d", "position": position}
        with store.transaction() as rows:
            for name, row in (("query", searched), ("impression", shown)):
                schema = pa.schema([(column, TYPES.get(column, pa.string())) for column in COLUMNS[name].split()])
                rows.append(name, pa.Table.from_pylist([row], schema=schema))

    show("one", 1)
    evidence(store, tmp_path, [], 1)
    show("two", 0)
    added = evidence(store, tmp_path, [], 1)
    assert added.equals(evidence(store, None, [], 1))
    places = [row["position"] for row in added.to_pylist() if row["query_key"] == "from 0"]
    assert sorted(places) == [1, 2]
