"""
How good a run is.

In:  qrels (from held-out judgments, or written by experts) and runs. Out: NDCG@10 by query, a mean with its interval;
read by the gate and the rehearsal.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytrec_eval
from scipy import stats

LIKELY_RELEVANT: Final = 0.5
_SURE_WEIGHT: Final = 0.5  # of a judgment: three quarters sure, by |2 P - 1|
_ASKED_AS: Final = {
    "ndcg@10": "ndcg_cut.10",
    "recall@10": "recall.10",
    "recall@100": "recall.100",
    "mrr@10": "recip_rank",
}
MEASURES: Final = tuple(_ASKED_AS)
_TENTH: Final = 1 / 10.5
_GAIN_STEPS: Final = 100  # gains are whole numbers in trec_eval; NDCG does not change with their unit


Run = Mapping[str, Mapping[str, float]]  # query -> document_id -> score, higher first


class Interval(NamedTuple):
    """A mean and the confidence interval around it."""

    mean: float
    low: float
    high: float


def qrels_from(judgments: pa.Table) -> dict[str, dict[str, float]]:
    """
    Take the documents that are likelier relevant than not, with their grade; a query without any is left out.

    Lower grades stay outside: what is unexamined has the prior of the base model's ranks as its grade, and many small
    priors together would reward a candidate for ranking as the base model does.
    """
    qrels: dict[str, dict[str, float]] = {}
    likely = judgments.filter(pc.greater_equal(judgments["grade"], LIKELY_RELEVANT))
    for row in likely.select(["query_key", "document_id", "grade"]).to_pylist():
        qrels.setdefault(row["query_key"], {})[row["document_id"]] = row["grade"]
    return qrels


def ndcg_at_10(qrels: Mapping[str, Mapping[str, float]], run: Run) -> dict[str, float]:
    """
    NDCG@10 of every query that has a relevant document; one that the run leaves out gets 0.

    trec_eval's form, whose gain is the grade itself. With P(relevant) as the grade, the DCG is the expected DCG of the
    unknown yes-or-no relevance; the exponential form 2^grade - 1 would not be. A grade counts in steps of .01.

    Args:
        qrels: query -> document_id -> grade: P(relevant) in [0, 1], or an expert's 0, 1, 2.
        run: query -> document_id -> score, higher first.
    """
    return _evaluated(qrels, run, ["ndcg@10"])["ndcg@10"]


def measures_of(qrels: Mapping[str, Mapping[str, float]], run: Run) -> dict[str, dict[str, float]]:
    """
    Give each of MEASURES by query, as ndcg_at_10 does; for recall and MRR every document of the qrels is relevant.

    Args:
        run: at least 100 deep where there are as many documents.
    """
    measured = _evaluated(qrels, run, MEASURES)
    # A rank below the tenth has a reciprocal under .1.
    first = {query: value if value > _TENTH else 0.0 for query, value in measured["mrr@10"].items()}
    return {**measured, "mrr@10": first}


def _evaluated(
    qrels: Mapping[str, Mapping[str, float]], run: Run, measures: Collection[str]
) -> dict[str, dict[str, float]]:
    """Give measures by name and query, as trec_eval does; the reciprocal rank at any depth."""
    gains = {
        query: {document_id: round(grade * _GAIN_STEPS) for document_id, grade in grades.items()}
        for query, grades in qrels.items()
    }
    asked = {query: grades for query, grades in gains.items() if any(gain > 0 for gain in grades.values())}
    evaluator = pytrec_eval.RelevanceEvaluator(asked, {_ASKED_AS[name] for name in measures})
    # It takes dictionaries alone, and a copy of a long run costs as much as its measures.
    runs = {
        query: scores if isinstance(scores, dict) else dict(scores) for query in asked if (scores := run.get(query))
    }
    measured = evaluator.evaluate(runs)
    return {
        name: {
            query: float(measured[query][_ASKED_AS[name].replace(".", "_")]) if query in measured else 0.0
            for query in asked
        }
        for name in measures
    }


def judged_documents(judgments: pa.Table) -> dict[str, set[str]]:
    """Documents of each query whose clicks and skips alone make one three quarters sure, or more, either way."""
    judged: dict[str, set[str]] = {}
    sure = judgments.filter(pc.greater_equal(judgments["weight"], _SURE_WEIGHT))
    for row in sure.select(["query_key", "document_id"]).to_pylist():
        judged.setdefault(row["query_key"], set()).add(row["document_id"])
    return judged


def condensed(run: Run, judged: Mapping[str, Collection[str]]) -> dict[str, dict[str, float]]:
    """
    Leave out of each query's documents those that nobody has judged.

    Source: Sakai, Alternatives to Bpref, SIGIR 2007. It flatters a system that brings up new documents, as counting
    them for irrelevant wrongs it (Fröbe et al., ECIR 2023); between the two lies what would be found.
    """
    kept = {}
    for query, scores in run.items():
        known = judged.get(query, ())
        kept[query] = {name: score for name, score in scores.items() if name in known}
    return kept


def best_first(scores: Mapping[str, float]) -> list[str]:
    """The documents of one query of a run in their order."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def first_ten(scores: Mapping[str, float]) -> list[str]:
    """Those that a page shows."""
    return best_first(scores)[:10]


def judged_at_10(run: Run, judged: Mapping[str, Collection[str]]) -> float:
    """Mean number of judged documents among the first ten of each query."""
    found = [len(set(first_ten(scores)).intersection(judged.get(query, ()))) for query, scores in run.items()]
    return float(np.mean(found)) if found else 0.0


def query_weights(judgments: pa.Table, max_weight: float) -> dict[str, float]:
    """
    Weigh each query of `qrels_from` by how unlikely it was to get there: 1 / P(one of its documents is found).

    A query whose answer live shows at the top is found by a click or two; one whose answer is at rank 8, where a better
    model would help, seldom. Unweighted, the gate asks the queries that live answers well, and sees no candidate gain:
    in a rehearsal on clinical terms +.011 where +.138 was true, and +.107 weighted by up to 10.

    Args:
        max_weight: no query counts for more, whatever its chance was; the variance pays for what the bias saves.
    Source: Horvitz and Thompson, JASA 1952; in ranking, inverse propensity weights (arXiv:1608.04468), here of a
        query's judgment rather than of a click.
    """
    missed: dict[str, float] = {}
    likely = judgments.filter(pc.greater_equal(judgments["grade"], LIKELY_RELEVANT))
    for row in likely.select(["query_key", "inclusion"]).to_pylist():
        missed[row["query_key"]] = missed.get(row["query_key"], 1.0) * (1 - row["inclusion"])
    return {query: 1 / max(1 - chance, 1 / max_weight) for query, chance in missed.items()}


def weighted_mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """The weighted mean over queries; None where nothing was asked."""
    return float(np.average(list(values.values()), weights=[weights[query] for query in values])) if values else None


def mean_and_error(values: Collection[float], weights: Collection[float] | None = None) -> tuple[float, float]:
    """
    Give the mean and its standard error; of one value alone nothing is known, so its error is endless.

    With weights it is the ratio estimator's, linearised (Cochran, Sampling Techniques, section 6.4); equal weights give
    the same as none.

    Raises: ValueError for no values.
    """
    if not values:
        raise ValueError("There is no mean of no values.")
    sample = np.fromiter(values, dtype=np.float64, count=len(values))
    weight = np.ones(len(sample)) if weights is None else np.fromiter(weights, dtype=np.float64, count=len(sample))
    mean = float(np.average(sample, weights=weight))
    if len(sample) == 1:
        return mean, float(np.inf)
    error = np.sqrt(np.sum((weight * (sample - mean)) ** 2) * len(sample) / (len(sample) - 1)) / weight.sum()
    return mean, float(error)


def mean_interval(values: Collection[float], confidence: float, weights: Collection[float] | None = None) -> Interval:
    """
    Give the mean and its Student t interval.

    Over queries, t holds its level as bootstrap and permutation do (arXiv:1905.11096) and needs no seed, so a verdict
    is the same whenever it is computed.

    Raises: ValueError for no values.
    """
    mean, error = mean_and_error(values, weights)
    if len(values) == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)
