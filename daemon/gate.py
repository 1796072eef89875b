"""
The gate: may the candidate take the live version's place?

In:  NDCG@10 of both by held-out query, and how likely luck may decide. Out: a comparison with its verdict, and what may
be held against it (objections); read by the step gate and the dashboard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated, Final, Literal, NamedTuple

from annotated_types import Ge, Interval
from pydantic import BeforeValidator
from scipy import stats

from relevanced.daemon.lists import by_comma
from relevanced.daemon.metrics import mean_and_error, mean_interval
from relevanced.daemon.resampling import FEWEST

_HORIZON: Final = 100  # times the queries at hand: who needs more than that has two versions that are alike

GateVerdict = Literal["accepted", "rejected", "inconclusive"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePolicy:
    """When a candidate may take the live version's place."""

    # Held-out queries with a relevant document, below which t is no good guide. Over real differences of a candidate
    # without any gain, an interval of 95 % lay above 0 in 3.2 % at 100 queries, 3.3 % at 200, 2.8 % at 400 and 4.8 % at
    # 30, where 2.5 % are asked for.
    min_queries: Annotated[int, Ge(2)] = 100
    # NDCG@10, candidate minus live; the interval's low end must exceed it. With many thousand queries every difference
    # is significant (arXiv:2305.02461), and less than this is not worth a new index.
    min_improvement: Annotated[float, Interval(ge=0, lt=1)] = 0.01
    # Of the paired interval over queries, both ends: 95 % sure that an accepted candidate gains more than the least, or
    # that a rejected one gains less. Whether it gains anything is asked more sharply, by yearly_error.
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    # How likely a version without any gain is promoted, by the gate or a trial, within a whole year of tests.
    yearly_error: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    # Most that a query counts for, which was found against the odds; see metrics.query_weights. More widens the
    # interval and lets a chance click in a deep place decide. Over four cycles of a rehearsal, where .07 was true, the
    # gate saw .02 at 1, and .05 at 3 and 10; of 223 queries 195 were left in effect at 3, where it accepted three of
    # the four, and 137 at 10, where it accepted none.
    max_query_weight: Annotated[float, Ge(1)] = 3.0
    # NDCG@10 that a slice of the queries may lose; more, and beyond luck for all slices together, rejects a candidate
    # whatever the mean gains.
    max_slice_loss: Annotated[float, Interval(ge=0, le=1)] = 0.02
    # What parts the queries into slices, beside how often they are typed and what live knew of them.
    slice_by: Annotated[tuple[Literal["application", "device"], ...], BeforeValidator(by_comma)] = (
        "application",
        "device",
    )
    # A directory in BEIR layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), of what the model shall not unlearn; its
    # documents are not those that are searched. Empty: no general set.
    general: str = ""
    # NDCG@10 that a candidate may lose on it, against the base version and against live; more, beyond luck, rejects.
    max_general_loss: Annotated[float, Interval(ge=0, le=1)] = 0.02
    # NDCG@10 with which the base version and all since must answer a held-out query that is an anchor: of one relevant
    # document, the first or second place.
    anchor_ndcg: Annotated[float, Interval(gt=0, le=1)] = 0.6
    # NDCG@10 that anchors may lose against live; likewise. None: their loss is told and rejects nobody, for what was
    # chosen by doing well falls a little by chance.
    max_anchor_loss: Annotated[float, Interval(ge=0, le=1)] | None = None
    # Manual: a version that the gate or a trial found better waits for `relevanced approve`.
    approval: Literal["automatic", "manual"] = "automatic"


class Difference(NamedTuple):
    """A mean difference, candidate minus live, and both ends of its interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Candidate minus live: the mean difference of NDCG@10 over queries with its interval, and what follows from it.

    luck: how likely a version without any gain looks as good as this, or better; one-sided.
    enough: with how many queries in all the verdict would be clear, did they differ as these do; None: not to be said.
    """

    verdict: GateVerdict
    difference: float
    low: float
    high: float
    queries: int
    luck: float
    enough: int | None
    found: str
    sentence: str

    @property
    def interval(self) -> Difference:
        """The mean difference and both ends."""
        return Difference(self.difference, self.low, self.high)

    def numbers(self) -> dict[str, float | None]:
        """Give the figures for the dashboard and the version's metrics."""
        return {
            **self.interval._asdict(),
            "queries": self.queries,
            "luck": self.luck,
            "enough_queries": self.enough,
        }


@dataclass(frozen=True, slots=True)
class Objection:
    """
    What is held against a promotion, whatever the mean says.

    proven: it is harm that was shown, and rejects; else the gain itself is in doubt, and the gate does not decide.
    """

    reason: str  # a name, for machines
    proven: bool
    sentence: str  # a part of one


def compare(
    candidate_ndcg: Mapping[str, float],
    live_ndcg: Mapping[str, float],
    weights: Mapping[str, float],
    policy: GatePolicy,
    level: float,
    *,
    candidate: int,
    live: int,
    what: str = "held-out queries",
) -> Comparison:
    """
    Compare query by query: what is hard for one version is hard for the other, so the differences vary less.

    Accepted is a candidate whose interval lies above min_improvement, and which luck explains at most at the level.

    Args:
        candidate_ndcg, live_ndcg: query -> NDCG@10, of the same queries.
        weights: query -> how much it counts, above 0; see metrics.query_weights.
        level: how likely this test may accept a candidate without any gain; see error_budget.level_of.
        candidate, live, what: their version_ids and what the queries are, for the sentence.
    Raises: ValueError when the two were not asked the same queries.
    """
    if candidate_ndcg.keys() != live_ndcg.keys():
        raise ValueError("Candidate and live were measured on different queries, so they cannot be compared.")
    queries, bar = len(live_ndcg), policy.min_improvement
    mean, low, high = paired_interval(candidate_ndcg, live_ndcg, weights, policy.confidence)
    luck, error = _luck(candidate_ndcg, live_ndcg, weights)
    found = f"{change(mean, low, high)} against live {live} on {queries:,} {what}"
    verdict: GateVerdict = "inconclusive"
    enough = None
    if queries < policy.min_queries:
        enough = policy.min_queries
        found = f"{queries:,} {what} have a relevant document"
        rest = f", and the gate asks for {enough:,}; {enough - queries:,} more are needed"
    elif low > bar and luck <= level:
        verdict, rest = "accepted", ""
    elif high < bar:
        verdict, rest = "rejected", f", short of the {bar:.3f} asked for" if mean > 0 else ""
    else:
        enough = _enough(queries, mean, error, level, policy)
        rest = f"; about {enough - queries:,} more would tell" if enough else "; the two are too alike to tell"
        if low > bar:
            rest = f", as luck alone would have it in {_one_in(luck)}, and this test may err in {_one_in(level)}{rest}"
    return Comparison(
        verdict, mean, low, high, queries, luck, enough, found, f"{_said(verdict, candidate)}: {found}{rest}."
    )


def paired_interval(
    candidate_ndcg: Mapping[str, float], live_ndcg: Mapping[str, float], weights: Mapping[str, float], confidence: float
) -> Difference:
    """Give the weighted mean of the differences, candidate minus live, and both ends of its interval; see compare."""
    if not live_ndcg:
        return Difference(0.0, -1.0, 1.0)
    differences, counts = _paired(candidate_ndcg, live_ndcg, weights)
    mean, low, high = mean_interval(differences, confidence, counts)
    return Difference(mean, max(low, -1.0), min(high, 1.0))  # no difference of two NDCG lies outside


def with_unjudged(
    comparison: Comparison,
    condensed: Comparison,
    judged: tuple[float, float],
    *,
    candidate: int,
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
    sentence = f"{_said('inconclusive', candidate)}: {comparison.found}, but {_among_judged(condensed, judged)}."
    return replace(comparison, verdict="inconclusive", sentence=sentence)


def better_known(condensed: Comparison, judged: tuple[float, float]) -> Objection | None:
    """
    Doubt a gain that a candidate has because more of its documents are judged: unjudged ones count as irrelevant.

    Args: as for with_unjudged.
    """
    if judged[0] <= judged[1] or condensed.low > 0:
        return None
    return Objection("better_known", proven=False, sentence=_among_judged(condensed, judged))


def by_golden(comparison: Comparison, golden: Comparison, policy: GatePolicy, *, candidate: int) -> Comparison:
    """
    Hear the golden set beside the clicks.

    It decides where the clicks are of too few queries; whom it leaves in doubt is kept until they are enough. Where
    they reject what it finds better, the sentence says so; harm to it is an objection, as other harm.

    Args:
        golden: candidate against live on the golden set.
    """
    if comparison.queries < policy.min_queries <= golden.queries:
        return replace(golden, enough=comparison.enough) if golden.verdict == "inconclusive" else golden
    if comparison.verdict == "rejected" and golden.queries >= policy.min_queries and golden.low > 0:
        disagreement = f"the golden set disagrees, where {golden.found}"
        return replace(comparison, sentence=f"{comparison.sentence.removesuffix('.')}; {disagreement}.")
    return comparison


def golden_harm(difference: Difference, queries: int) -> Objection | None:
    """
    Object where the golden set is harmed: what clicks call a gain, people who know call a loss.

    Fewer than FEWEST queries prove nothing: they often fall alike, by a rank each, which looks like certainty.

    Args:
        difference: on the golden set, with the interval by which harm is proven.
        queries: of the golden set.
    """
    if queries < FEWEST or difference.high >= 0:
        return None
    return Objection("golden", proven=True, sentence=f"on {queries:,} golden queries {change(*difference)}")


def weigh(comparison: Comparison, objections: Sequence[Objection], *, candidate: int) -> Comparison:
    """Let objections take back an acceptance; harm that is proven rejects also what the gate was undecided about."""
    proven = [one for one in objections if one.proven]
    if comparison.verdict == "rejected" or not objections or (comparison.verdict != "accepted" and not proven):
        return comparison
    verdict: GateVerdict = "rejected" if proven else "inconclusive"
    against = "; ".join(one.sentence for one in proven or objections)
    joined = "but" if comparison.difference > 0 else "and"
    sentence = f"{_said(verdict, candidate)}: {comparison.found}, {joined} {against}."
    return replace(comparison, verdict=verdict, enough=None, sentence=sentence)


def change(mean: float, low: float, high: float) -> str:
    """Say a difference of NDCG@10 with its interval."""
    if round(mean, 3) < 0:
        return f"NDCG@10 fell by {-mean:.3f} ({-high:.3f} to {-low:.3f})"
    return f"NDCG@10 rose by {abs(mean):.3f} ({low:.3f} to {high:.3f})"


def _said(verdict: GateVerdict, candidate: int) -> str:
    said = {"accepted": "Accepted", "rejected": "Rejected", "inconclusive": "Undecided about"}[verdict]
    return f"{said} candidate {candidate}"


def _among_judged(condensed: Comparison, judged: tuple[float, float]) -> str:
    mine, lives = judged
    return (
        f"of its first ten documents {mine:.1f} are judged, of live's {lives:.1f}; among the judged alone"
        f" {change(*condensed.interval)}"
    )


def _luck(
    candidate_ndcg: Mapping[str, float], live_ndcg: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[float, float]:
    """The one-sided p-value of a gain, by Student's t as the interval, and the standard error of the mean."""
    if len(live_ndcg) < 2:
        return 1.0, 1.0
    mean, error = mean_and_error(*_paired(candidate_ndcg, live_ndcg, weights))
    if not error:
        return float(mean <= 0), 0.0
    return float(stats.t.sf(mean / error, len(live_ndcg) - 1)), error


def _paired(
    candidate_ndcg: Mapping[str, float], live_ndcg: Mapping[str, float], weights: Mapping[str, float]
) -> tuple[list[float], list[float]]:
    """The difference of each query, and its weight."""
    queries = sorted(live_ndcg)
    return [candidate_ndcg[query] - live_ndcg[query] for query in queries], [weights[query] for query in queries]


def _one_in(chance: float) -> str:
    return f"1 of {min(1 / max(chance, 1e-9), 1e9):,.0f}"


def _enough(queries: int, mean: float, error: float, level: float, policy: GatePolicy) -> int | None:
    """
    Queries in all until the interval, which narrows with their root, leaves the bar, and luck its level.

    None where that would take many times those at hand.
    """
    distance, others = mean - policy.min_improvement, queries - 1
    needed = float(stats.t.ppf((1 + policy.confidence) / 2, others)) * error / max(abs(distance), 1e-12)
    if distance > 0:
        needed = max(needed, float(stats.t.isf(level, others)) * error / mean)
    if not 0 < needed**2 <= _HORIZON:
        return None
    return max(queries + 1, ceil(queries * needed**2))
