"""What experts have judged is held out of training, whatever its hash says."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from relevanced.daemon.config import load_settings
from relevanced.daemon.cycle import begin_cycle
from relevanced.daemon.golden import GoldenJudgment, load_golden
from relevanced.daemon.mining import mine
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Cycle
from relevanced.daemon.wiring import Parts
from tests.story.town import settle, small_dataset


def mined_queries(parts: Parts, cycle: Cycle) -> tuple[list[str], dict[str, str]]:
    """The queries that training reads, and those that are held out, with the reason."""
    mine(parts.stages, cycle, silent)
    folder = parts.stages.files(cycle)
    held_out = pq.read_table(folder / "holdout.parquet", columns=["query_key", "held_out_by"]).to_pylist()
    triplets = pq.read_table(folder / "triplets.parquet", columns=["query_key"])
    return sorted(set(triplets["query_key"].to_pylist())), {row["query_key"]: row["held_out_by"] for row in held_out}


def test_a_cycle_trains_on_no_query_that_was_judged(new_home: Callable[[], Path], tmp_path: Path) -> None:
    home = new_home()
    settle(home, small_dataset(tmp_path))
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    try:
        cycle = begin_cycle(parts.database, "test")
        taught, _ = mined_queries(parts, cycle)
        judged = taught[:3]
        rows = [GoldenJudgment(f"The {text.upper()}?", "any", 1) for text in judged]
        load_golden(parts.database, rows, "expert", silent)
        left, held_out = mined_queries(parts, cycle)
        assert sorted(taught) == sorted([*left, *judged])
        assert {text for text, why in held_out.items() if why == "golden"} == set(judged)
    finally:
        parts.close()
