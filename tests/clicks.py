"""
Simulated searchers for tests of the click model: numpy only, the truth known.

Queries are Zipf distributed. A version ranks each query's documents by a noisy score in which relevance shows; a
searcher examines position k with probability curve[k - 1] and clicks on what was examined, by its relevance. Some read
on only until they have found something (a cascade), some click at the top whatever stands there (trust).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relevanced.daemon.click_model import ClickModel, ClickModelPolicy, fit_pairs
from relevanced.daemon.pairs import gather
from relevanced.daemon.signals import SignalPolicy

LOVBENCH = np.array([5041, 2338, 1323, 890, 700, 512, 385, 388, 343, 328]) / 5041  # clicks by position, EVENTS.md
RECIPROCAL = 1 / np.arange(1, 11)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How people search; by default 12,000 sessions, and a ranking of NDCG@10 .64."""

    queries: int = 1500
    mean_sessions: float = 8.0
    curve: Sequence[float] | np.ndarray = tuple(LOVBENCH)
    relevant_click_rate: float = 0.7  # of an examined relevant document
    other_click_rate: float = 0.1  # of an examined other one
    swap_probability: float = 0.0  # of each pair of neighbours
    abandonment: float = 0.0  # share of sessions that look at nothing
    reading: Literal["pbm", "cascade", "trust"] = "pbm"
    skill: Sequence[float] = (2.0,)  # of each version: standard deviations between relevant and other documents
    candidates: int = 60  # documents a query might be answered with
    seed: int = 0


@dataclass(frozen=True)
class Log:
    """What the searchers left behind, and what they knew."""

    evidence: pa.Table
    ranks: pa.Table  # of the first version
    live_ranks: pa.Table  # of the last
    relevant: np.ndarray  # bool (queries, candidates)
    sessions: int

    def is_relevant(self, table: pa.Table) -> np.ndarray:
        """Look up the truth of each (query_key, document_id) of a table."""
        queries = np.array([int(key.removeprefix("q")) for key in table["query_key"].to_pylist()], dtype=int)
        documents = np.array([int(name.split("d")[1]) for name in table["document_id"].to_pylist()], dtype=int)
        return self.relevant[queries, documents]


def fit_click_model(
    evidence: pa.Table, ranks: pa.Table, policy: ClickModelPolicy, signals: SignalPolicy | None = None
) -> ClickModel:
    """Gather and fit, as the step mine does."""
    deepest = pc.max(ranks["rank"]).as_py() or 0
    return fit_pairs(gather(evidence, ranks, deepest), deepest, policy, signals or SignalPolicy())


def simulate(traffic: Traffic) -> Log:
    """Let them search, every version for its share of the sessions."""
    rng = np.random.default_rng(traffic.seed)
    shape = (traffic.queries, traffic.candidates)
    relevant = np.arange(traffic.candidates) < 1 + rng.poisson(0.5, traffic.queries)[:, None]
    popularity = 1 / np.arange(1, traffic.queries + 1)
    popularity /= popularity.sum()
    depth, per_version = len(traffic.curve), round(traffic.queries * traffic.mean_sessions / len(traffic.skill))
    temper = rng.standard_normal(shape)  # what all versions have in common
    parts, orders = [], []
    for version, skill in enumerate(traffic.skill, start=1):
        noise = temper if version == 1 else 0.6 * temper + 0.8 * rng.standard_normal(shape)
        orders.append(np.argsort(-(skill * relevant + noise), axis=1))
        query = rng.choice(traffic.queries, per_version, p=popularity)
        shown = _swapped(orders[-1][query, :depth], traffic.swap_probability, rng)
        looks = rng.random((per_version, 1)) >= traffic.abandonment
        answers = relevant[query[:, None], shown]
        clicked = _clicked(answers, looks, traffic, rng)
        parts.append(
            (
                np.repeat(query, depth),
                shown.ravel(),
                np.tile(np.arange(1, depth + 1), per_version),
                (np.cumsum(clicked, axis=1) > clicked).ravel(),
                clicked.ravel(),
                np.full(shown.size, version),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Log(_evidence(*columns), _ranks(orders[0]), _ranks(orders[-1]), relevant, per_version * len(traffic.skill))


def _swapped(shown: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    shown = shown.copy()
    for left in range(0, shown.shape[1] - 1, 2):
        swap = rng.random(len(shown)) < probability
        shown[swap, left], shown[swap, left + 1] = shown[swap, left + 1], shown[swap, left]
    return shown


def _clicked(answers: np.ndarray, looks: np.ndarray, traffic: Traffic, rng: np.random.Generator) -> np.ndarray:
    curve = np.asarray(traffic.curve)
    rate = np.where(answers, traffic.relevant_click_rate, traffic.other_click_rate)
    if traffic.reading == "trust":  # arXiv:1901.05755: what stands at the top is clicked for standing there
        rate = np.where(answers, rate, rate + 0.15 / np.arange(1, len(curve) + 1))
    draws, wanted = rng.random(answers.shape), rng.random(answers.shape) < rate
    if traffic.reading != "cascade":
        return (draws < curve) & looks & wanted
    goes_on = draws < np.append(1.0, curve[1:] / curve[:-1])
    satisfied = wanted & (rng.random(answers.shape) < np.where(answers, 0.8, 0.2))
    before = np.cumsum(satisfied, axis=1) - satisfied
    return np.logical_and.accumulate(goes_on, axis=1) & (before == 0) & looks & wanted


def _evidence(
    query: np.ndarray,
    document: np.ndarray,
    position: np.ndarray,
    after_click: np.ndarray,
    clicked: np.ndarray,
    version: np.ndarray,
) -> pa.Table:
    cells, cell = np.unique(np.stack([query, document, position, after_click, version]), axis=1, return_inverse=True)
    return pa.table(
        {
            "query_key": [f"q{number}" for number in cells[0]],
            "document_id": [f"q{number}d{name}" for number, name in zip(cells[0], cells[1], strict=True)],
            "position": pa.array(cells[2], pa.int32()),
            "after_click": cells[3].astype(bool),
            "version": [str(number) for number in cells[4]],
            "shown": np.bincount(cell.ravel()).astype(np.float64),
            "clicks": np.bincount(cell.ravel(), weights=clicked),
        }
    )


def _ranks(order: np.ndarray, depth: int = 50) -> pa.Table:
    queries = np.repeat(np.arange(len(order)), depth)
    return pa.table(
        {
            "query_key": [f"q{number}" for number in queries],
            "document_id": [
                f"q{number}d{name}" for number, name in zip(queries, order[:, :depth].ravel(), strict=True)
            ],
            "rank": pa.array(np.tile(np.arange(1, depth + 1), len(order)), pa.int32()),
        }
    )
