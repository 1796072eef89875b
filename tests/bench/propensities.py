"""
How far off the propensities are, and how fast they are found.

    python -m tests.bench.propensities [--sessions 400000] [--seeds 5]

Simulated searchers (tests/clicks.py) whose propensities are known, over two curves: with 10 % of the neighbours swapped
under one version; without any, under three versions that rank better and better; and, as the baseline, without either
by plain EM, which has no prior by rank. An error is |estimate / truth - 1|, the mean of positions 2 to 10: the first is
the scale. The last line is one JSON object.
"""

import argparse
import json
import resource
import time
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relevanced.daemon.click_model import ClickModelPolicy
from relevanced.daemon.judgments import judge
from relevanced.daemon.pairs import pool_ranks
from tests.clicks import LOVBENCH, RECIPROCAL, Log, Traffic, fit_click_model, simulate

QUERIES: Final = 20_000
CURVES: Final = {"lovbench": LOVBENCH, "inverse": RECIPROCAL}
SETTINGS: Final = {
    "swaps": {"swap_probability": 0.1, "skill": (2.0,)},
    "versions": {"skill": (1.5, 2.0, 2.5)},
    "neither": {"skill": (2.0,)},
}


def main() -> None:
    """Print the table, and its means."""
    arguments = argparse.ArgumentParser(description="Errors of the propensities over seeds and curves.")
    arguments.add_argument("--sessions", type=int, default=400_000)
    arguments.add_argument("--seeds", type=int, default=5)
    given = arguments.parse_args()
    titles = "".join(f"{name:>12}" for name in [*SETTINGS, "plain EM"])
    print(f"{'curve':10}{'seed':>5}{titles}{'sessions/s':>14}", flush=True)  # noqa: T201
    errors: dict[str, list[float]] = {name: [] for name in [*SETTINGS, "plain"]}
    rates: list[float] = []
    for curve_name, curve in CURVES.items():
        for seed in range(1, given.seeds + 1):
            row = []
            for name, setting in SETTINGS.items():
                traffic = Traffic(
                    queries=QUERIES, mean_sessions=given.sessions / QUERIES, curve=curve, seed=seed, **setting
                )
                log = simulate(traffic)
                began = time.perf_counter()
                # As the step mine does once live is no longer the base model.
                ranks = log.ranks if name != "versions" else pool_ranks(log.ranks, log.live_ranks)
                error = error_of(log, ranks, curve)
                rates.append(log.sessions / (time.perf_counter() - began))
                errors[name].append(error)
                row.append(error)
            errors["plain"].append(error_of(log, log.ranks.slice(0, 0), curve))
            cells = "".join(f"{100 * error:11.1f}%" for error in [*row, errors["plain"][-1]])
            print(f"{curve_name:10}{seed:5}{cells}{rates[-1]:14,.0f}", flush=True)  # noqa: T201
    figures = {name: round(float(np.mean(found)), 4) for name, found in errors.items()}
    worst = {f"{name}_worst": round(max(errors[name]), 4) for name in ("swaps", "versions")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    speed = {"sessions_per_s": round(float(np.median(rates))), "peak_rss_mb": peak}
    print(json.dumps({"bench": "propensities", "sessions": given.sessions, **figures, **worst, **speed}))  # noqa: T201


def error_of(log: Log, ranks: pa.Table, curve: np.ndarray) -> float:
    """Fit and judge; the mean relative error of positions 2 to 10."""
    model = fit_click_model(log.evidence, ranks, ClickModelPolicy())
    grades = judge(log.evidence, ranks, model)["grade"]
    assert 0 <= pc.min(grades).as_py() <= pc.max(grades).as_py() <= 1
    return float(np.abs(model.propensities[1:10] / curve[1:10] - 1).mean())


if __name__ == "__main__":
    main()
