"""
Two versions side by side, for people: how they differ, and for which queries.

In:  cycles/<id>/holdout.parquet, the models and vectors of both. Out: a Contrast; shown by the command compare. The
gate decides by the same queries, weights and intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from relevanced.daemon.asked import DECIDING, held_out_by_of
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exact_runs import exact_run, pool_of
from relevanced.daemon.gate import paired_interval
from relevanced.daemon.metrics import measures_of, qrels_from, query_weights, weighted_mean
from relevanced.daemon.ports import Progress
from relevanced.daemon.stages import Stages

TOP: Final = 3  # documents of a query that are kept to be shown
_ALIKE: Final = 1e-9  # in NDCG@10


@dataclass(frozen=True, slots=True)
class MeasureContrast:
    """Weighted means over the queries, and the mean difference, second minus first, with its interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class QueryContrast:
    """One query: NDCG@10 of both, and the first documents of both, each with whether it is judged relevant."""

    user_query: str | None  # None where too few people typed it
    first: float
    second: float
    first_top: Sequence[tuple[str, bool]]
    second_top: Sequence[tuple[str, bool]]

    @property
    def difference(self) -> float:
        return self.second - self.first


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """The second version against the first."""

    first_version: int
    second_version: int
    cycle_id: int  # whose held-out queries were asked
    measures: Mapping[str, MeasureContrast]
    queries: Sequence[QueryContrast]  # those first that the second answers most better

    def counts(self) -> tuple[int, int, int]:
        """For how many queries the second is better, worse, and alike."""
        better = sum(one.difference > _ALIKE for one in self.queries)
        worse = sum(one.difference < -_ALIKE for one in self.queries)
        return better, worse, len(self.queries) - better - worse

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """How many queries differ by so much; a difference on an edge between two bins is of the upper one."""
        counts, _ = np.histogram([one.difference for one in self.queries], bins=list(edges))
        return [int(count) for count in counts]


def contrast(stages: Stages, first: int, second: int, cycle_id: int | None, k: int, progress: Progress) -> Contrast:
    """
    Compare two versions on the queries that a cycle holds out by their hash, which no version was trained on.

    Args:
        cycle_id: None: the newest that holds any out.
        k: actors who must have typed a query before its words are shown.
    Raises: BadInput where no cycle, or not this one, holds out a query with a relevant document.
    """
    cycle_id, file = _holdout_of(stages.directory, cycle_id)
    held_out = pq.read_table(file)
    by = held_out_by_of(held_out)
    qrels = {query: grades for query, grades in qrels_from(held_out).items() if by[query] in DECIDING}
    if not qrels:
        raise BadInput(f"No held-out query of cycle {cycle_id} has a relevant document yet; more clicks will tell.")
    rows = held_out.select([name for name in ("query_key", "user_query", "actors") if name in held_out.column_names])
    known = {row["query_key"]: row for row in rows.to_pylist()}
    texts = {key: known[key]["user_query"] for key in qrels}
    pool = pool_of(stages, held_out)
    runs = {version: exact_run(stages, version, texts, pool, progress) for version in (first, second)}
    weights = query_weights(held_out, stages.gate.max_query_weight)
    ones, others = (measures_of(qrels, runs[version]) for version in (first, second))
    measures = {}
    for name, one in ones.items():
        other = others[name]
        measures[name] = MeasureContrast(
            weighted_mean(one, weights) or 0.0,
            weighted_mean(other, weights) or 0.0,
            *paired_interval(other, one, weights, stages.gate.confidence),
        )
    queries = [
        QueryContrast(
            texts[query] if known[query].get("actors", 0) >= k else None,
            ones["ndcg@10"][query],
            others["ndcg@10"][query],
            *(_top(runs[version][query], qrels[query]) for version in (first, second)),
        )
        for query in sorted(qrels)
    ]
    return Contrast(
        first_version=first,
        second_version=second,
        cycle_id=cycle_id,
        measures=measures,
        queries=sorted(queries, key=lambda one: -one.difference),
    )


def _holdout_of(cycles: Path, cycle_id: int | None) -> tuple[int, Path]:
    have = {int(path.parent.name): path for path in cycles.glob("*/holdout.parquet") if path.parent.name.isdecimal()}
    if not have:
        raise BadInput("No cycle has held out queries yet; `relevanced cycle run` begins one.")
    chosen = max(have) if cycle_id is None else cycle_id
    if chosen not in have:
        raise BadInput(f"Cycle {chosen} holds out no queries; there are those of {', '.join(map(str, sorted(have)))}.")
    return chosen, have[chosen]


def _top(run: Mapping[str, float], relevant: Mapping[str, float]) -> list[tuple[str, bool]]:
    first = sorted(run, key=lambda name: (-run[name], name))[:TOP]
    return [(name, name in relevant) for name in first]
