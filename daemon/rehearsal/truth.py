"""
What the labels of a data set say of what was mined: the report's figures that no miner can know.

In:  cycles/<id>/triplets.parquet and judgments.parquet, the train qrels.
Out: precision and recall of the mined pairs, and the calibration of the grades; read by report.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from relevanced.daemon.beir import relevant_documents
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.rehearsal.dataset import Dataset

BINS: Final = 10  # of the grades, equally wide

Pair = tuple[str, str]  # query_key, document_id


@dataclass(frozen=True, slots=True)
class Bin:
    """The judged pairs whose grades lie in one tenth of [0, 1]; of an empty one nothing is known but that."""

    grade: float | None  # mean
    relevant: float | None  # share, by the train qrels
    pairs: int


def true_pairs(dataset: Dataset) -> set[Pair]:
    """Every pair that is relevant by the train qrels."""
    return {
        (query_key(text), document_id)
        for query_id, text in dataset.train_queries.items()
        for document_id in relevant_documents(dataset.train_qrels[query_id])
    }


def teachable_pairs(dataset: Dataset, holdout: HoldoutPolicy) -> set[Pair]:
    """Those of queries outside the holdout, which a version may be trained on."""
    return {pair for pair in true_pairs(dataset) if not is_held_out(cluster_key(pair[0]), holdout)}


def pair_precision(triplets: Path, dataset: Dataset) -> float | None:
    """Share of the distinct mined (query, positive) pairs that are relevant by the train qrels; None without pairs."""
    mined = _mined(triplets)
    return len(mined & true_pairs(dataset)) / len(mined) if mined else None


def pair_recall(triplets: Path, dataset: Dataset, holdout: HoldoutPolicy) -> float | None:
    """Share of the true pairs of queries outside the holdout that were mined as positives; None where none is true."""
    wanted = teachable_pairs(dataset, holdout)
    return len(_mined(triplets) & wanted) / len(wanted) if wanted else None


def calibration(judgments: Path, dataset: Dataset) -> list[Bin] | None:
    """What came of grades, by tenth, for all judged pairs, those held out too; None before anything was judged."""
    if not judgments.exists():
        return None
    table = pq.read_table(judgments, columns=["query_key", "document_id", "grade"])
    pairs = zip(table["query_key"].to_pylist(), table["document_id"].to_pylist(), strict=True)
    true = true_pairs(dataset)
    relevant = np.array([pair in true for pair in pairs], dtype=bool)
    grades = table["grade"].to_numpy()
    places = np.minimum((grades * BINS).astype(int), BINS - 1)
    return [_bin(grades[places == place], relevant[places == place]) for place in range(BINS)]


def _bin(grades: np.ndarray, relevant: np.ndarray) -> Bin:
    if not len(grades):
        return Bin(None, None, 0)
    return Bin(float(grades.mean()), float(relevant.mean()), len(grades))


def _mined(triplets: Path) -> set[Pair]:
    if not triplets.exists():
        return set()
    table = pq.read_table(triplets, columns=["query_key", "positive_id"])
    return set(zip(table["query_key"].to_pylist(), table["positive_id"].to_pylist(), strict=True))
