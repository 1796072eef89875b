"""
How fast a log becomes judgments, and how much of that a log costs that has grown by a tenth.

    python -m tests.bench.judgments [--sessions 5000000] [--home DIRECTORY]

Simulated searches of ten impressions (tests/bench/town.py) in a real log store. Three runs, each a process of its own:
all of it; a tenth more, most of it by new clients, going on from the evidence that the first has kept; and all of that
without it, to compare the judgments with. A run reads the bots, the texts and the evidence, which takes DuckDB with the
threads and the memory that the log store has, and then gathers, fits and judges by one thread. Seconds are of the
processor, for a machine may have other work; the table has those of the clock too. With --home the log store is kept,
and found there by the next call. The last line is one JSON object.
"""

import argparse
import json
import os

if __name__ == "__main__":  # before numpy is imported, which asks once
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon.bots import BotPolicy, marked_bots
from relevanced.daemon.click_model import ClickModelPolicy, fit_pairs
from relevanced.daemon.database import Database
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.evidence import read_evidence
from relevanced.daemon.judgments import judge_pairs
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.pairs import gather
from relevanced.daemon.queries import query_key
from relevanced.daemon.signals import SignalPolicy
from tests.bench.town import Town

T = TypeVar("T")
STAGES: Final = ("bots", "typed", "evidence", "gather", "fit", "judge")
RUNS: Final = {"first": "first", "second": "second", "whole": "second"}  # run -> the snapshot that it reads


def main() -> None:
    """Fill, run and compare."""
    arguments = argparse.ArgumentParser(description="Evidence and judgments of many sessions, and of a tenth more.")
    arguments.add_argument("--sessions", type=int, default=5_000_000)
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.run:
        run(given.home, given.run)
        return
    home = given.home or Path(tempfile.mkdtemp(prefix="relevanced-bench-"))
    try:
        fill(home, given.sessions)
        runs = {name: _in_a_process(home, name) for name in RUNS}
    finally:
        if not given.home:
            shutil.rmtree(home, ignore_errors=True)
    fitted = sum(runs["first"]["cpu"][stage] for stage in ("gather", "fit", "judge"))
    figures = {
        "sessions_per_s": round(given.sessions / fitted),
        "incremental_share": round(_seconds(runs["second"]) / _seconds(runs["first"]), 3),
        "peak_rss_mb": max(found["peak_rss_mb"] for found in runs.values()),
        "max_difference": runs["whole"]["max_difference"],
    }
    print(json.dumps({"bench": "judgments", "sessions": given.sessions, **figures}))  # noqa: T201


def fill(home: Path, sessions: int) -> None:
    """Make the log store, unless it is there."""
    if (home / "snapshots.json").exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    database = Database.open(None, home)
    store, town, snapshots = LogStore.open(database.url, home / "lake"), Town(), {}
    town.search(store, sessions)
    snapshots["first"] = store.snapshot()
    town.search(store, sessions // 10, returning=0.2)
    snapshots["second"] = store.snapshot()
    pq.write_table(town.ranks_table(), home / "ranks.parquet")
    (home / "snapshots.json").write_text(json.dumps(snapshots))
    store.close()
    database.close()
    print(f"Wrote {sessions + sessions // 10:,} sessions in {time.perf_counter() - began:.0f} s.", flush=True)  # noqa: T201


def run(home: Path, name: str) -> None:
    """Read and judge once; the judgments stay for the comparison."""
    pa.set_cpu_count(1)
    snapshot_id = json.loads((home / "snapshots.json").read_text())[RUNS[name]]
    store = LogStore.open(start_embedded(home), home / "lake")
    if name == "first":
        shutil.rmtree(home / "kept", ignore_errors=True)
        (home / "kept").mkdir()
    ranks = pq.read_table(home / "ranks.parquet")
    clock: dict[str, tuple[float, float]] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        began = time.process_time(), time.perf_counter()
        result = work()
        clock[stage] = time.process_time() - began[0], time.perf_counter() - began[1]
        return result

    bots = timed("bots", lambda: marked_bots(store, snapshot_id, BotPolicy()))
    keys = timed("typed", lambda: _keys(store.read("typed_queries", snapshot_id, {"bots": bots}, min_actors=1)))
    kept = None if name == "whole" else home / "kept"
    evidence = timed(
        "evidence",
        lambda: read_evidence(store, snapshot_id, query_keys=keys, bots=bots, signals=SignalPolicy(), directory=kept),
    )
    store.close()
    deepest = int(np.max(ranks["rank"].to_numpy()))
    pairs = timed("gather", lambda: gather(evidence, ranks, deepest))
    model = timed("fit", lambda: fit_pairs(pairs, deepest, ClickModelPolicy(), SignalPolicy()))
    judgments = timed("judge", lambda: judge_pairs(pairs, model))
    found: dict[str, Any] = {
        "cpu": {stage: round(clock[stage][0], 2) for stage in STAGES},
        "clock": {stage: round(clock[stage][1], 2) for stage in STAGES},
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "evidence": len(evidence),
        "pairs": len(pairs),
        "iterations": model.iterations,
    }
    if name == "second":
        pq.write_table(judgments, home / "judgments.parquet")
    if name == "whole":
        found["max_difference"] = difference(pq.read_table(home / "judgments.parquet"), judgments)
    print(json.dumps(found))  # noqa: T201


def difference(one: pa.Table, other: pa.Table) -> float:
    """The largest difference of a number in two tables of judgments: of counts above 1 the relative one."""
    for column in ("query_key", "document_id"):
        assert one[column].combine_chunks().equals(other[column].combine_chunks())
    numbers = [field.name for field in other.schema if pa.types.is_floating(field.type)]
    pairs = [(one[name].to_numpy(), other[name].to_numpy()) for name in numbers]
    return max(float((np.abs(a - b) / np.maximum(1, np.abs(b))).max()) for a, b in pairs)


def _keys(typed: pa.Table) -> pa.Table:
    texts = typed["user_query"].to_pylist()
    return pa.table({"user_query": texts, "query_key": [query_key(text) for text in texts]})


def _in_a_process(home: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.judgments", "--home", str(home), "--run", name]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(f"{name:8}{said.splitlines()[-1]}", flush=True)  # noqa: T201
    return found


def _seconds(found: dict[str, Any]) -> float:
    return float(sum(found["cpu"].values()))


if __name__ == "__main__":
    main()
