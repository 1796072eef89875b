"""
Two rankings of the same queries side by side, for people: how they differ, and for which queries.

In:  judged queries and the runs of two models. Out: a Contrast; shown by compare_cli, contrast_plot and contrast_page.
The gate decides by the same measures, weights and intervals.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from relevanced.daemon.gate import GatePolicy, paired_interval
from relevanced.daemon.metrics import Run, condensed, judged_at_10, measures_of, ndcg_at_10, weighted_mean

TOP: Final = 10  # documents of a query that are kept to be shown: those that NDCG@10 reads
_ALIKE: Final = 1e-9  # in NDCG@10


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedQueries:
    """
    Queries that two models are compared on, each with a relevant document at least.

    Every mapping is by query. `judged` holds what is known of a query's documents either way; where it holds relevant
    ones alone, nothing is known to be irrelevant.
    """

    source: str  # what they are, behind their number: "held-out queries of cycle 3"
    texts: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]  # of the relevant documents
    judged: Mapping[str, Collection[str]]
    weights: Mapping[str, float]  # how much each counts, above 0
    shown: Collection[str]  # queries whose words may be shown to people
    documents: Collection[str]  # that any of them has a judgment of; the pool holds them all
    remarks: Sequence[str] = ()  # sentences on what was left out, or is to be heeded


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
    """One query: NDCG@10 of both, and the first TOP documents of both, each with whether it is judged relevant."""

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
    """The second against the first."""

    first: str  # their names within a sentence: "version 3", "model e5-small"
    second: str
    source: str  # of JudgedQueries
    confidence: float  # of each interval
    min_queries: int  # that the gate asks for
    measures: Mapping[str, MeasureContrast]
    judged_at_10: tuple[float, float]  # judged documents among the first ten, of both
    among_judged: MeasureContrast | None  # NDCG@10 on condensed lists; None where nothing is known to be irrelevant
    queries: Sequence[QueryContrast]  # those first that the second answers most better
    remarks: Sequence[str] = field(default=())

    def percent(self) -> str:
        """The confidence of the intervals, for people."""
        return f"{100 * self.confidence:g} %"

    def counts(self) -> tuple[int, int, int]:
        """For how many queries the second is better, worse, and alike."""
        better = sum(one.difference > _ALIKE for one in self.queries)
        worse = sum(one.difference < -_ALIKE for one in self.queries)
        return better, worse, len(self.queries) - better - worse

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """How many queries differ by so much; a difference on an edge between two bins is of the upper one."""
        counts, _ = np.histogram([one.difference for one in self.queries], bins=list(edges))
        return [int(count) for count in counts]

    def most(self, limit: int) -> tuple[list[QueryContrast], list[QueryContrast]]:
        """
        Pick the queries that gained most and that lost most, the largest difference first.

        Those whose words may be shown come before all others, which tell less.
        """
        by_change = sorted(self.queries, key=lambda one: (one.user_query is None, -abs(one.difference)))
        gained = [one for one in by_change if one.difference > _ALIKE]
        lost = [one for one in by_change if one.difference < -_ALIKE]
        return gained[:limit], lost[:limit]

    def verdict(self) -> str:
        """Say in a sentence which of the two ranks better, as far as the interval of NDCG@10 tells."""
        ndcg = self.measures["ndcg@10"]
        second, interval = capitalised(self.second), f"{self.percent()} interval"
        figures = f"NDCG@10 is {ndcg.second:.3f} against {ndcg.first:.3f}"
        on = f"on {len(self.queries):,} {self.source}"
        if ndcg.low > 0:
            found = f"{second} ranks better than {self.first} {on}: {figures}, {_by(ndcg, interval, 'higher')}."
        elif ndcg.high < 0:
            found = f"{second} ranks worse than {self.first} {on}: {figures}, {_by(ndcg, interval, 'lower')}."
        else:
            around = f"the {interval} of the difference, {_signed(ndcg)}, holds 0"
            found = f"{second} and {self.first} cannot be told apart {on}: {figures}, and {around}."
        if len(self.queries) < self.min_queries:
            found += f" So few queries prove little; the gate asks for {self.min_queries:,}."
        return found

    def tally(self) -> str:
        """Say for how many queries which of the two is better."""
        better, worse, alike = self.counts()
        second = capitalised(self.second)
        return f"{second} is better for {better:,} queries, worse for {worse:,}, and alike for {alike:,}."

    def unjudged(self) -> str:
        """Say what the documents that nobody has judged do to the figures."""
        first, second = self.judged_at_10
        if self.among_judged is None:
            return (
                "Nothing is known to be irrelevant here: any document without a label counts as irrelevant, and"
                f" judged@10 is the number of relevant ones among the first ten, {first:.1f} of {self.first} and"
                f" {second:.1f} of {self.second}."
            )
        return (
            f"A document that nobody has judged counts as irrelevant: among the first ten {first:.1f} are judged of"
            f" {self.first} and {second:.1f} of {self.second}. On condensed lists, which leave the others out, NDCG@10"
            f" differs by {self.among_judged.difference:+.3f} ({_signed(self.among_judged)})."
        )


def contrast(
    names: tuple[str, str],
    judged: JudgedQueries,
    runs: tuple[Run, Run],
    policy: GatePolicy,
    remarks: Sequence[str] = (),
) -> Contrast:
    """
    Compare two rankings of the same queries.

    Args:
        names: of both, as within a sentence.
        runs: of both, at least 100 deep where there are as many documents.
        remarks: more sentences to be shown beside those of the queries.
    Source: condensed lists, Sakai, Alternatives to Bpref, SIGIR 2007; see metrics.condensed.
    """
    ones, others = (measures_of(judged.qrels, run) for run in runs)
    knows_irrelevant = any(set(judged.judged.get(query, ())) - grades.keys() for query, grades in judged.qrels.items())
    among_judged = [ndcg_at_10(judged.qrels, condensed(run, judged.judged)) for run in runs]
    queries = [
        QueryContrast(
            judged.texts[query] if query in judged.shown else None,
            ones["ndcg@10"][query],
            others["ndcg@10"][query],
            *(_top(run[query], judged.qrels[query]) for run in runs),
        )
        for query in sorted(judged.qrels)
    ]
    return Contrast(
        first=names[0],
        second=names[1],
        source=judged.source,
        confidence=policy.confidence,
        min_queries=policy.min_queries,
        measures={name: _measure(one, others[name], judged.weights, policy) for name, one in ones.items()},
        judged_at_10=(judged_at_10(runs[0], judged.judged), judged_at_10(runs[1], judged.judged)),
        among_judged=_measure(among_judged[0], among_judged[1], judged.weights, policy) if knows_irrelevant else None,
        queries=sorted(queries, key=lambda one: -one.difference),
        remarks=[*judged.remarks, *remarks],
    )


def capitalised(name: str) -> str:
    """The name at the beginning of a sentence."""
    return name[:1].upper() + name[1:]


def _measure(
    first: Mapping[str, float], second: Mapping[str, float], weights: Mapping[str, float], policy: GatePolicy
) -> MeasureContrast:
    one, other = (weighted_mean(values, weights) or 0.0 for values in (first, second))
    return MeasureContrast(one, other, *paired_interval(second, first, weights, policy.confidence))


def _top(run: Mapping[str, float], relevant: Collection[str]) -> list[tuple[str, bool]]:
    first = sorted(run, key=lambda name: (-run[name], name))[:TOP]
    return [(name, name in relevant) for name in first]


def _by(measure: MeasureContrast, interval: str, way: str) -> str:
    low, high = sorted((abs(measure.low), abs(measure.high)))
    return f"{way} by {abs(measure.difference):.3f} ({interval} {low:.3f} to {high:.3f})"


def _signed(measure: MeasureContrast) -> str:
    return f"{measure.low:+.3f} to {measure.high:+.3f}"
