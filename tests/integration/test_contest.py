"""The gate on a real database and real files; how the two versions rank is given."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from relevanced.daemon import history
from relevanced.daemon.config import Settings
from relevanced.daemon.contest import Run, gate
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Cycle, Outcome
from relevanced.daemon.wiring import Parts

BEST, WORST = {"good": 0.9, "bad": 0.1}, {"good": 0.1, "bad": 0.9}
HASHED = [f"old{number}" for number in range(20)] + [f"new{number}" for number in range(10)]
RECENT = [f"recent{number}" for number in range(40)]
JUDGED = {"document_id": "good", "grade": 0.9, "weight": 0.9, "inclusion": 1.0}


@pytest.fixture
def parts(new_database_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """Live is version 2, of cycle 1; candidate 3 is better at what its hash holds out, and worse at the recent."""
    parts = Parts(tmp_path, Settings(database_url=SecretStr(new_database_url()), gate=GatePolicy(min_queries=10)))
    for manifest in ({"base": "b"}, {"base": 1, "cycle_id": 1}, {"base": 1, "cycle_id": 2}):
        with parts.database.connection() as connection:
            version_id = history.register_version(connection, None)
        history.complete_version(parts.database, version_id, Path(f"/m{version_id}"), "f", 64, manifest)
        history.set_state(parts.database, version_id, "verified")
    parts.promotion.promote(2, actor="ada", reason="start")

    def ranked(_stages: Any, version_id: int, queries: dict[str, str], *_: Any) -> Run:
        return {query: BEST if (version_id == 3) == (query in HASHED) else WORST for query in queries}

    monkeypatch.setattr("relevanced.daemon.contest.exact_run", ranked)
    yield parts
    parts.close()


def write(parts: Parts, cycle_id: int, name: str, rows: list[dict[str, Any]]) -> None:
    folder = parts.stages.directory / str(cycle_id)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)


def outcome(parts: Parts, by_time: list[str], *, mined_before: bool = False) -> Outcome:
    held_out = [{"held_out_by": "hash", "user_query": key, "query_key": key, **JUDGED} for key in HASHED]
    held_out += [{"held_out_by": "time", "user_query": key, "query_key": key, **JUDGED} for key in by_time]
    if mined_before:
        held_out = [{name: value for name, value in row.items() if name != "held_out_by"} for row in held_out]
    write(parts, 2, "holdout.parquet", held_out)
    now = datetime.now(UTC)
    return gate(parts.stages, Cycle(2, "test", "gate", 1, 3, 1, now, None, None), silent)


def leave_the_files_of_live(parts: Parts) -> None:
    write(parts, 1, "holdout.parquet", [{"query_key": key} for key in HASHED if key.startswith("old")])
    write(parts, 1, "triplets.parquet", [{"query_key": "taught", "positive_id": "good"}])


def test_the_verdict_is_that_of_the_hash_and_the_slices_tell_of_the_rest(parts: Parts) -> None:
    leave_the_files_of_live(parts)
    alone, beside = outcome(parts, []), outcome(parts, RECENT)
    assert alone.verdict == "accepted"
    assert beside.sentence == alone.sentence
    slices = {name: (found["queries"], found["difference"] > 0) for name, found in beside.numbers["slices"].items()}
    assert slices == {
        "recent_queries": (40, False),
        "earlier_queries": (30, True),
        "novel_queries": (50, False),
        "seen_queries": (20, True),
        "known_documents": (70, False),
    }
    assert {**beside.numbers, "slices": alone.numbers["slices"]} == alone.numbers
    assert history.version(parts.database, 3).manifest["metrics"]["slices"] == beside.numbers["slices"]


def test_without_the_files_of_live_the_verdict_stands_alone(parts: Parts) -> None:
    assert (outcome(parts, []).verdict, outcome(parts, []).numbers["slices"]) == ("accepted", {})
    write(parts, 1, "holdout.parquet", [{"query_key": "a"}])
    (parts.stages.directory / "1" / "triplets.parquet").write_bytes(b"torn")
    assert outcome(parts, []).numbers["slices"] == {}


def test_where_the_base_model_is_live_nothing_tells_novel_from_known(parts: Parts) -> None:
    leave_the_files_of_live(parts)
    parts.promotion.promote(1, actor="ada", reason="back")
    assert outcome(parts, RECENT).numbers["slices"].keys() == {"recent_queries", "earlier_queries"}


def test_a_file_mined_before_there_was_another_way_is_of_the_hash(parts: Parts) -> None:
    assert outcome(parts, [], mined_before=True).verdict == "accepted"
