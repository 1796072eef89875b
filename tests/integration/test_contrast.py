"""Two versions side by side, on real files and a real database; how they rank is given."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon.contrast import contrast
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exact_runs import Run
from relevanced.daemon.gate import GatePolicy, compare
from relevanced.daemon.ports import silent
from relevanced.daemon.stages import Stages

FIRST, SECOND = {"good": 0.9, "bad": 0.5, "other": 0.1}, {"good": 0.1, "bad": 0.9, "other": 0.5}
ROW = {"document_id": "good", "grade": 0.9, "weight": 0.9, "held_out_by": "hash", "actors": 5}


class Given:
    """What contrast asks of the stages, where the documents are few."""

    gate = GatePolicy(min_queries=2)

    def __init__(self, directory: Path) -> None:
        self.directory = directory


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Version 2 puts the relevant document first for the queries that begin with "a"; version 1 for the others."""

    def ranked(_stages: Stages, version_id: int, queries: dict[str, str], *_: Any) -> Run:
        return {query: FIRST if (version_id == 2) == query.startswith("a") else SECOND for query in queries}

    monkeypatch.setattr("relevanced.daemon.contrast.exact_run", ranked)
    monkeypatch.setattr("relevanced.daemon.contrast.pool_of", lambda *_: None)
    return Given(tmp_path)


def write(stages: Any, cycle_id: int, rows: list[dict[str, Any]]) -> None:
    folder = stages.directory / str(cycle_id)
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "holdout.parquet")


def rows_of(*keys: str, **changes: Any) -> list[dict[str, Any]]:
    return [{**ROW, "query_key": key, "user_query": key.title(), "inclusion": 1.0, **changes} for key in keys]


def test_who_gains_and_who_loses_is_told_with_the_gates_own_figures(stages: Any) -> None:
    rows = rows_of("a1", "a2") + rows_of("b1", inclusion=0.5) + rows_of("a3", held_out_by="time")
    write(stages, 4, rows + rows_of("b2", actors=2))
    write(stages, 3, rows_of("old"))
    found = contrast(stages, 1, 2, None, 3, silent)

    assert found.cycle_id == 4
    assert [one.user_query for one in found.queries] == ["A1", "A2", "B1", None]  # a3 is held out by time
    assert [round(one.difference, 2) for one in found.queries] == [0.5, 0.5, -0.5, -0.5]
    assert found.queries[0].second_top == [("good", True), ("bad", False), ("other", False)]
    assert found.counts() == (2, 2, 0)
    assert found.histogram((-1, 0, 0.5, 1)) == [2, 0, 2]
    assert found.measures["recall@10"].difference == 0
    arms = {"a1": 0.5, "a2": 0.5, "b1": 1.0, "b2": 1.0}, {"a1": 1.0, "a2": 1.0, "b1": 0.5, "b2": 0.5}
    weights = {"a1": 1.0, "a2": 1.0, "b1": 2.0, "b2": 1.0}
    gated = compare(arms[1], arms[0], weights, stages.gate, 0.05, candidate=2, live=1)
    measure = found.measures["ndcg@10"]
    assert (measure.difference, measure.low, measure.high) == pytest.approx(gated.interval)
    assert (measure.first, measure.second) == pytest.approx((4 / 5, 3.5 / 5))


def test_turned_round_it_says_the_opposite(stages: Any) -> None:
    write(stages, 4, rows_of("a1", "a2", "a3", "b1"))
    one, other = (contrast(stages, *versions, 4, 3, silent) for versions in ((1, 2), (2, 1)))
    assert one.measures["mrr@10"].difference == pytest.approx(-other.measures["mrr@10"].difference)
    assert one.counts() == (3, 1, 0)
    assert other.counts() == (1, 3, 0)


def test_where_nothing_can_be_asked_one_sentence_says_so(stages: Any) -> None:
    with pytest.raises(BadInput, match="No cycle has held out queries yet"):
        contrast(stages, 1, 2, None, 3, silent)
    write(stages, 4, rows_of("a1", grade=0.2))
    with pytest.raises(BadInput, match="No held-out query of cycle 4 has a relevant document yet"):
        contrast(stages, 1, 2, None, 3, silent)
    with pytest.raises(BadInput, match="Cycle 5 holds out no queries; there are those of 4"):
        contrast(stages, 1, 2, 5, 3, silent)


def test_a_file_that_says_not_how_many_typed_a_query_shows_none(stages: Any) -> None:
    write(stages, 4, [{name: value for name, value in row.items() if name != "actors"} for row in rows_of("a1", "b1")])
    assert [one.user_query for one in contrast(stages, 1, 2, None, 1, silent).queries] == [None, None]
