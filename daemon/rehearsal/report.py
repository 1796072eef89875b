"""
The report of a rehearsal.

In:  what was measured of the base model (zero-shot), of the version of each cycle and of the oracle, all on the test
     queries; and the runs of the first and the live version, from which examples are picked.
Out: a value, shown to people by page.py, and its JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from relevanced.daemon.beir import relevant_documents
from relevanced.daemon.files import write_asked
from relevanced.daemon.records import Verdict
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.truth import Bin

EXAMPLES: Final = 3
TOP: Final = 3  # documents of an example


@dataclass(frozen=True, slots=True)
class Measure:
    """Mean NDCG@10 over the test queries, with the ends of its confidence interval."""

    ndcg: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The figures under the names of the report."""
        return {"ndcg@10": self.ndcg, "ci": [self.low, self.high]}


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleReport:
    """
    What one cycle came to; version and measure are None when it ended before there was a candidate.

    All measures are on the same test queries: those whose relevant documents were there at the time.
    """

    version: int | None
    verdict: Verdict
    triplets: int
    pair_precision: float | None  # share of the mined (query, positive) pairs that the train qrels confirm
    pair_recall: float | None  # share of the train qrels' pairs outside the holdout that were mined
    measure: Measure | None
    live_version: int  # when the cycle had ended
    live: Measure
    zero_shot: Measure
    oracle: Measure | None
    shown_ndcg: float | None  # of the answers as people saw them, by the train qrels
    unexplored_ndcg: float | None  # the same searches as live alone would have answered them
    calibration: Sequence[Bin] | None
    documents: int  # that were there
    test_queries: int  # that were measured

    @property
    def recovered(self) -> float | None:
        """The candidate's share of the oracle's gain."""
        return share_of_gain(self.measure, self.zero_shot, self.oracle)

    def to_json(self) -> dict[str, Any]:
        """The cycle as an element of the report's `cycles`."""
        figures = self.measure.to_json() if self.measure else {"ndcg@10": None, "ci": None}
        return {
            "version": self.version,
            "verdict": self.verdict,
            "triplets": self.triplets,
            "pair_precision": self.pair_precision,
            "pair_recall": self.pair_recall,
            **figures,
            "recovered": self.recovered,
            "live_version": self.live_version,
            "live_ndcg@10": self.live.ndcg,
            "live_recovered": share_of_gain(self.live, self.zero_shot, self.oracle),
            "zero_shot_ndcg@10": self.zero_shot.ndcg,
            "shown_ndcg@10": self.shown_ndcg,
            "unexplored_ndcg@10": self.unexplored_ndcg,
            "calibration": [asdict(one) for one in self.calibration] if self.calibration is not None else None,
            "documents": self.documents,
            "test_queries": self.test_queries,
        }


def share_of_gain(measure: Measure | None, zero_shot: Measure, oracle: Measure | None) -> float | None:
    """Share of the oracle's gain over zero-shot that a version has; None without an oracle that gains anything."""
    if measure is None or oracle is None or oracle.ndcg <= zero_shot.ndcg:
        return None
    return (measure.ndcg - zero_shot.ndcg) / (oracle.ndcg - zero_shot.ndcg)


@dataclass(frozen=True, slots=True)
class Rollback:
    """How long it took until the version before served again, and which that was."""

    seconds: float
    version: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """Mean rank of the documents that spammers push, for test queries near them, by the first and the live version."""

    rank_before: float
    rank_after: float
    attacked: bool = True  # False: nobody pushed them, and this is where they would stand all the same


@dataclass(frozen=True, slots=True)
class Example:
    """A test query and the titles of its first documents, each with whether it is relevant."""

    user_query: str
    before: Sequence[tuple[str, bool]]
    after: Sequence[tuple[str, bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole rehearsal. Version 1 is the base model, so its measure is zero_shot."""

    name: str
    documents: int
    train_queries: int
    test_queries: int
    zero_shot: Measure
    cycles: Sequence[CycleReport]
    oracle: Measure | None
    attainable: Measure | None  # of the oracle without the held-out queries, which no version may see
    live_version: int
    live: Measure  # of the version that serves at the end
    seconds: Mapping[str, float]  # by step
    rollback: Rollback | None
    examples: Sequence[Example]
    switches: Sequence[str]  # the sentences of promotions and rollbacks, in order
    pushed: Pushed | None = None

    @property
    def recovered(self) -> float | None:
        """Share of the oracle's gain that the live version has."""
        return share_of_gain(self.live, self.zero_shot, self.oracle)

    @property
    def exploration(self) -> tuple[float, float] | None:
        """NDCG@10 that people were shown, and that live alone would have shown: means of the cycles."""
        both = [(one.shown_ndcg, one.unexplored_ndcg) for one in self.cycles]
        pairs = [(shown, alone) for shown, alone in both if shown is not None and alone is not None]
        if not pairs:
            return None
        return sum(shown for shown, _ in pairs) / len(pairs), sum(alone for _, alone in pairs) / len(pairs)

    def to_json(self) -> dict[str, Any]:
        """The report for machines; what could not be measured is null."""
        return {
            "zero_shot": self.zero_shot.to_json(),
            "oracle": self.oracle.to_json() if self.oracle else None,
            "attainable": self.attainable.to_json() if self.attainable else None,
            "cycles": [cycle.to_json() for cycle in self.cycles],
            "live_version": self.live_version,
            "recovered": self.recovered,
            "seconds": dict(self.seconds),
            "rollback": (
                {"seconds": self.rollback.seconds, "version": self.rollback.version} if self.rollback else None
            ),
            "pushed": asdict(self.pushed) if self.pushed else None,
        }


def pick_examples(
    dataset: Dataset,
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
) -> list[Example]:
    """
    Pick the test queries, shortest first, that have a relevant document among the top 3 of `after` only.

    Args:
        before: run (query id -> document id -> score) of the first version on the test queries.
        after: run of the live version on the same queries.
    Returns: three examples; fewer when fewer queries gained so much.
    """
    titles = {document.document_id: document.title or document.text for document in dataset.documents}
    examples = []
    for query_id, text in sorted(dataset.test_queries.items(), key=lambda query: (len(query[1]), query)):
        relevant = relevant_documents(dataset.test_qrels[query_id])
        first, last = _top(before.get(query_id, {})), _top(after.get(query_id, {}))
        if relevant.isdisjoint(first) and not relevant.isdisjoint(last):
            old, new = ([(titles[name], name in relevant) for name in names] for names in (first, last))
            examples.append(Example(text, old, new))
        if len(examples) == EXAMPLES:
            break
    return examples


def mean_rank(run: Mapping[str, Mapping[str, float]], pairs: Sequence[tuple[str, str]]) -> float:
    """Mean rank, from 1, of a document for a query; one that the run leaves out is next after its deepest."""
    ranks = []
    for query_id, document_id in pairs:
        scores = run[query_id]
        own = scores.get(document_id, float("-inf"))
        ranks.append(1 + sum(score > own for score in scores.values()))
    return sum(ranks) / len(ranks)


def _top(run: Mapping[str, float]) -> list[str]:
    return sorted(run, key=lambda document_id: (-run[document_id], document_id))[:TOP]


def write_report(path: Path, report: Report) -> None:
    """
    Write the JSON, whole or not at all.

    Raises: BadInput when the file cannot be written.
    """
    write_asked(path, json.dumps(report.to_json(), indent=2) + "\n")
