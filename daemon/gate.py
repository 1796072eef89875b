"""
The gate: may the candidate take the live version's place?

In:  NDCG@10 of both by held-out query. Out: a comparison with its verdict; read by the step gate and the dashboard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated, Final, Literal

from annotated_types import Ge, Interval

from relevanced.daemon.metrics import mean_interval

_HORIZON: Final = 100  # times the queries at hand: who needs more than that has two versions that are alike

GateVerdict = Literal["accepted", "rejected", "inconclusive"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePolicy:
    """When a candidate may take the live version's place."""

    # Held-out queries with a relevant document. Simulated over real differences of a candidate without any gain, 3.2 %
    # were accepted at 100 queries, 3.3 % at 200, 2.8 % at 400 and 4.8 % at 30, where 2.5 % are asked for.
    min_queries: Annotated[int, Ge(2)] = 100
    # NDCG@10, candidate minus live; the interval's low end must exceed it. Raise it when there are many thousand
    # queries, where every difference is significant (arXiv:2305.02461).
    min_improvement: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95  # of the paired interval over queries, both ends
    # Most that a query counts for, which was found against the odds; see metrics.query_weights. More widens the
    # interval and lets a chance click in a deep place decide. Over four cycles of a rehearsal, where .07 was true, the
    # gate saw .02 at 1, and .05 at 3 and 10; of 223 queries 195 were left in effect at 3, where it accepted three of
    # the four, and 137 at 10, where it accepted none.
    max_query_weight: Annotated[float, Ge(1)] = 3.0
    # Manual: a version that the gate or a trial found better waits for `relevanced approve`.
    approval: Literal["automatic", "manual"] = "automatic"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate minus live: the mean difference of NDCG@10 over queries with its interval, and what follows from it."""

    verdict: GateVerdict
    difference: float
    low: float
    high: float
    queries: int
    sentence: str

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean difference and both ends."""
        return self.difference, self.low, self.high

    def numbers(self) -> dict[str, float]:
        """Give the figures for the dashboard and the version's metrics."""
        return {"difference": self.difference, "low": self.low, "high": self.high, "queries": self.queries}


def compare(
    candidate_ndcg: Mapping[str, float],
    live_ndcg: Mapping[str, float],
    weights: Mapping[str, float],
    policy: GatePolicy,
    *,
    candidate: int,
    live: int,
) -> Comparison:
    """
    Compare query by query: what is hard for one version is hard for the other, so the differences vary less.

    Args:
        candidate_ndcg, live_ndcg: query -> NDCG@10, of the same queries.
        weights: query -> how much it counts, above 0; see metrics.query_weights.
        candidate, live: their version_ids, for the sentence.
    Raises: ValueError when the two were not asked the same queries.
    """
    if candidate_ndcg.keys() != live_ndcg.keys():
        raise ValueError("Candidate and live were measured on different queries, so they cannot be compared.")
    queries = len(live_ndcg)
    mean, low, high = paired_interval(candidate_ndcg, live_ndcg, weights, policy.confidence)
    found = f"{_change(mean, low, high)} against live {live} on {queries:,} held-out queries"
    verdict: GateVerdict = "inconclusive"
    if queries < policy.min_queries:
        sentence = _too_few(candidate, queries, policy)
    elif low > policy.min_improvement:
        verdict, sentence = "accepted", f"Accepted candidate {candidate}: {found}."
    elif high < policy.min_improvement:
        short = f", short of the {policy.min_improvement:.3f} asked for" if mean > 0 else ""
        verdict, sentence = "rejected", f"Rejected candidate {candidate}: {found}{short}."
    else:
        more = _queries_to_tell(queries, (high - low) / 2, abs(mean - policy.min_improvement))
        would_tell = f"about {more:,} more would tell" if more < _HORIZON * queries else "the two are too alike to tell"
        sentence = f"Undecided about candidate {candidate}: {found}; {would_tell}."
    return Comparison(verdict, mean, low, high, queries, sentence)


def paired_interval(
    candidate_ndcg: Mapping[str, float], live_ndcg: Mapping[str, float], weights: Mapping[str, float], confidence: float
) -> tuple[float, float, float]:
    """Give the weighted mean of the differences, candidate minus live, and both ends of its interval; see compare."""
    asked = sorted(live_ndcg)
    if not asked:
        return 0.0, -1.0, 1.0
    differences = [candidate_ndcg[query] - live_ndcg[query] for query in asked]
    mean, low, high = mean_interval(differences, confidence, [weights[query] for query in asked])
    return mean, max(low, -1.0), min(high, 1.0)  # no difference of two NDCG lies outside


def with_unjudged(
    comparison: Comparison, condensed: Comparison, judged: tuple[float, float], *, candidate: int, live: int
) -> Comparison:
    """
    Do not hold against a candidate that it shows documents which nobody could judge.

    Counted for irrelevant, they make a candidate worse than it is, for live showed the documents that were judged. A
    rejection stands only where the candidate is worse among the judged documents alone too.

    Args:
        comparison: with unjudged documents as irrelevant, which no candidate is wrongly accepted by.
        condensed: the same without them, which no candidate is wrongly rejected by.
        judged: judged documents among the first ten, of candidate and live.
    """
    if comparison.verdict != "rejected" or condensed.verdict == "rejected":
        return comparison
    mine, lives = judged
    return replace(
        comparison,
        verdict="inconclusive",
        sentence=(
            f"Undecided about candidate {candidate}: {_change(*comparison.interval)} against live {live} on"
            f" {comparison.queries:,} held-out queries, but of its first ten documents {mine:.1f} are judged, of live's"
            f" {lives:.1f}; among the judged alone {_change(*condensed.interval)}."
        ),
    )


def _change(mean: float, low: float, high: float) -> str:
    if mean < 0:
        return f"NDCG@10 fell by {-mean:.3f} ({-high:.3f} to {-low:.3f})"
    return f"NDCG@10 rose by {mean:.3f} ({low:.3f} to {high:.3f})"


def _too_few(candidate: int, queries: int, policy: GatePolicy) -> str:
    return (
        f"Undecided about candidate {candidate}: {queries:,} held-out queries have a relevant document, and the gate"
        f" asks for {policy.min_queries:,}; {policy.min_queries - queries:,} more are needed."
    )


def _queries_to_tell(queries: int, half_width: float, distance: float) -> int:
    """Queries to add until the interval, which narrows with their root, would no longer reach the bar."""
    if half_width >= distance * _HORIZON:
        return _HORIZON * queries
    return max(1, ceil(queries * (half_width / distance) ** 2) - queries)
