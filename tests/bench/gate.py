"""
How long the gate's statistics take: 10,000 queries, runs 100 deep, 10,000 resamples, six slices.

Two runs and their judgments are written to Parquet, and judged in a process of its own, which begins with nothing: from
Parquet to runs (load_seconds), and from runs to the verdict with all its figures (seconds): four measures of either
version, condensed lists, interval and luck, simultaneous intervals of the slices, unjudged bounds. The last line is one
JSON object.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon.asked import Asked, measured
from relevanced.daemon.contest import contest_between
from relevanced.daemon.exact_runs import DEPTH
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.resampling import RESAMPLES
from relevanced.daemon.slices import by_attribute, by_frequency

QUERIES: Final = 10_000
DOCUMENTS: Final = 200_000
MIB: Final = 1024 * 1024


def main() -> None:
    """Write the runs, and have them judged."""
    if len(sys.argv) > 1:
        judge(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), np.random.default_rng(0))
        subprocess.run([sys.executable, "-m", "tests.bench.gate", directory], check=True)


def write(directory: Path, rng: np.random.Generator) -> None:
    """Write two runs that share most documents, and what is judged of them."""
    first = rng.integers(0, DOCUMENTS, (QUERIES, 2 * DEPTH))
    noise = rng.standard_normal((2, QUERIES, 2 * DEPTH))
    truth = np.zeros((QUERIES, 2 * DEPTH))
    truth[:, :2] = 1.5
    scores = {"candidate": 1.2 * truth + noise[0], "live": truth + 0.5 * noise[0] + 0.87 * noise[1]}
    for name, some in scores.items():
        best = np.argsort(-some, axis=1)[:, :DEPTH]
        columns = {
            "query": np.repeat(np.arange(QUERIES), DEPTH),
            "document": np.take_along_axis(first, best, axis=1).ravel(),
            "score": np.take_along_axis(some, best, axis=1).ravel(),
        }
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")
    shown = np.argsort(-scores["live"], axis=1)[:, :12]
    judged = np.concatenate([np.broadcast_to([0, 1], (QUERIES, 2)), shown], axis=1)
    columns = {
        "query": np.repeat(np.arange(QUERIES), judged.shape[1]),
        "document": np.take_along_axis(first, judged, axis=1).ravel(),
        "grade": np.where(judged < 2, 0.9, 0.0).ravel(),
        "actors": np.repeat(rng.geometric(0.05, QUERIES), judged.shape[1]),
    }
    pq.write_table(pa.table(columns), directory / "judgments.parquet")


def judge(directory: Path) -> None:
    """Load, judge, and print how long either took."""
    began = time.perf_counter()
    runs = {name: run_of(pq.read_table(directory / f"{name}.parquet")) for name in ("candidate", "live")}
    asked = asked_of(pq.read_table(directory / "judgments.parquet"))
    loaded = time.perf_counter()
    candidate, live = (
        measured(asked, number, runs[name], {}, {}, {}) for number, name in ((2, "candidate"), (1, "live"))
    )
    found = contest_between(asked, candidate, live, [], GatePolicy(), 0.001, 3, base=live, general={})
    seconds = time.perf_counter() - loaded
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    print(found.found.sentence)  # noqa: T201
    figures: dict[str, Any] = {
        "bench": "gate",
        "queries": QUERIES,
        "resamples": RESAMPLES,
        "slices": len(found.numbers["slices"]),
        "seconds": round(seconds, 2),
        "load_seconds": round(loaded - began, 2),
        "peak_rss_mb": round(peak),
    }
    print(json.dumps(figures))  # noqa: T201


def run_of(table: pa.Table) -> dict[str, dict[str, float]]:
    """Give the dictionaries of a run, as rank_exactly does."""
    run: dict[str, dict[str, float]] = {}
    for query, document, score in zip(
        *(table[name].to_pylist() for name in ("query", "document", "score")), strict=True
    ):
        run.setdefault(f"q{query}", {}).setdefault(f"d{document}", score)
    return run


def asked_of(table: pa.Table) -> Asked:
    """Give what is asked, with six slices."""
    qrels: dict[str, dict[str, float]] = {}
    judged: dict[str, set[str]] = {}
    actors: dict[str, int] = {}
    for row in table.to_pylist():
        query, document = f"q{row['query']}", f"d{row['document']}"
        judged.setdefault(query, set()).add(document)
        actors[query] = row["actors"]
        if row["grade"] > 0:
            qrels.setdefault(query, {})[document] = row["grade"]
    places = {query: ("web", "phone", "kiosk")[number % 3] for number, query in enumerate(qrels)}
    return Asked(
        texts=dict(zip(qrels, qrels, strict=True)),
        unanswered={},
        qrels=qrels,
        weights={query: 1.0 + number % 3 for number, query in enumerate(qrels)},
        held_out_by=dict.fromkeys(qrels, "hash"),
        judged=judged,
        actors=actors,
        kinds=[by_frequency(actors), by_attribute("application", places)],
        recent=dict.fromkeys(qrels, "earlier_queries"),
        golden_texts={},
        golden_qrels={},
        pool=None,
    )


if __name__ == "__main__":
    main()
