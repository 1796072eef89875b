"""
How often the gate is wrong: candidates that are no better and are promoted, better ones that are not.

    relevanced compare 1 2 --json > both.json
    python -m tests.bench.gate_errors both.json [--tests 2000] [--years 200] [--min-improvement 0.01] [--confidence 0.9]

Over real NDCG@10 of the same queries by two versions. A candidate without any gain has the differences with their signs
drawn; one with a gain has so many more of its queries keep the better sign that the mean is that gain. Queries are
drawn with replacement. A test is the first, or the thirtieth, since the last promotion. Then: how many of those that
1,000 queries leave in doubt are accepted in the end, for they are kept and judged again on as many as the gate says.

A year is 365 candidates one after another, none of them better, all judged on the same 1,000 queries:
- new: each is drawn anew;
- by verdict: each varies the one before, unless that was rejected: somebody tunes by what the gate decides;
- with trials: as new, and what the gate is undecided about goes on trial among people who prefer neither;
- by number: each varies the one that had the best difference so far: somebody tunes by the figures that are printed.
  Nothing protects a holdout from that but to be asked less, or to be another one.
The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relevanced.daemon.error_budget import level_of
from relevanced.daemon.gate import Comparison, GatePolicy, compare
from relevanced.daemon.trial import TrialPolicy, judge_trial

Floats = npt.NDArray[np.float64]
Signs = npt.NDArray[np.bool_]

SIZES: Final = (200, 1000, 5000)
GAINS: Final = (0.0, 0.01, 0.02, 0.05)
TESTS: Final = (1, 30)  # since the last promotion
NIGHTS: Final = 365
MOST: Final = 20_000  # queries that are ever held out
VARIED: Final = 0.1  # of the queries, from one candidate to the next
PREFERENCES: Final = 40  # a night, one a query


def main() -> None:
    """Print the shares of accepted candidates by gain and number of queries, and those of whole years."""
    arguments = argparse.ArgumentParser(description="Error rates of the gate over real differences of two versions.")
    arguments.add_argument("file", type=Path, help="what `relevanced compare A B --json` printed")
    arguments.add_argument("--tests", type=int, default=2000)
    arguments.add_argument("--years", type=int, default=200)
    arguments.add_argument("--min-improvement", type=float, default=GatePolicy().min_improvement)
    arguments.add_argument("--confidence", type=float, default=GatePolicy().confidence)
    given = arguments.parse_args()
    queries = json.loads(given.file.read_text())["queries"]
    arms = np.array([[query["first"], query["second"]] for query in queries])
    rng = np.random.default_rng(0)
    policy = GatePolicy(min_improvement=given.min_improvement, confidence=given.confidence)
    spread = float(np.std(arms[:, 1] - arms[:, 0]))
    say(f"{len(arms):,} queries, whose differences have a standard deviation of {spread:.3f}")
    say(f"{'test':>6}{'queries':>9}" + "".join(f"{'gain ' + format(gain, '.2f'):>12}" for gain in GAINS))
    accepted: dict[int, dict[int, dict[str, float]]] = {test: {} for test in TESTS}
    for test in TESTS:
        for size in SIZES:
            level = level_of(test, policy.yearly_error)
            shares = {}
            for gain in GAINS:
                found = [judged(*drawn(arms, size, gain, rng), policy, level) for _ in range(given.tests)]
                shares[str(gain)] = sum(one.verdict == "accepted" for one in found) / given.tests
            accepted[test][size] = shares
            say(f"{test:6}{size:9,}" + "".join(f"{share:12.1%}" for share in shares.values()))
    in_the_end = {}
    for gain in GAINS:
        asked_for = [queries_until_accepted(arms, gain, rng, policy) for _ in range(given.tests // 4)]
        needed = [number for number in asked_for if number]
        in_the_end[str(gain)] = len(needed) / len(asked_for)
        say(
            f"gain {gain:.2f}: {in_the_end[str(gain)]:.1%} accepted in the end,"
            f" half of them by {np.median(needed) if needed else 0:,.0f} queries"
        )
    years = {}
    for name, promotes in YEARS.items():
        years[name] = sum(promotes(arms, rng, policy) for _ in range(given.years)) / given.years
        say(f"{name}: of {given.years} years without any gain, {years[name]:.1%} have a false promotion")
    say(
        json.dumps(
            {"bench": "gate_errors", "spread": spread, "accepted": accepted, "in_the_end": in_the_end, "years": years}
        )
    )


def drawn(arms: Floats, size: int, gain: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """
    Draw queries, and a candidate of a known gain.

    Args:
        arms: NDCG@10 of two versions, (queries, 2).
    Returns: NDCG@10 of the candidate and of live, (size,) each.
    """
    some = arms[rng.integers(len(arms), size=size)]
    # With the better sign kept with probability p the mean difference is (2 p - 1) times the mean absolute one.
    keep = min(1.0, 0.5 + gain / (2 * np.abs(arms[:, 1] - arms[:, 0]).mean()))
    return turned(some, rng.random(size) < keep)


def turned(arms: Floats, kept: Signs) -> tuple[Floats, Floats]:
    """Give candidate and live, where the candidate is the better arm of the queries that are kept."""
    better, worse = arms.max(axis=1), arms.min(axis=1)
    return np.where(kept, better, worse), np.where(kept, worse, better)


def queries_until_accepted(arms: Floats, gain: float, rng: np.random.Generator, policy: GatePolicy) -> int | None:
    """Judge one candidate on 1,000 queries, and again whenever there are enough; None: it never is accepted."""
    candidate, live = drawn(arms, MOST, gain, rng)
    size = 1000
    for test in range(1, NIGHTS):
        found = judged(candidate[:size], live[:size], policy, level_of(test, policy.yearly_error))
        if found.verdict == "accepted":
            return size
        if found.verdict == "rejected" or not found.enough or found.enough > MOST:
            return None
        size = found.enough
    return None


def new_each_night(arms: Floats, rng: np.random.Generator, policy: GatePolicy) -> bool:
    """Whether a year of new candidates has a false promotion."""
    some = asked(arms, rng)
    for test in range(1, NIGHTS + 1):
        found = judged(*turned(some, coins(rng)), policy, level_of(test, policy.yearly_error))
        if found.verdict == "accepted":
            return True
    return False


def tuned_by_verdict(arms: Floats, rng: np.random.Generator, policy: GatePolicy) -> bool:
    """Whether a year of candidates that follow the verdicts has one."""
    some, kept = asked(arms, rng), coins(rng)
    for test in range(1, NIGHTS + 1):
        found = judged(*turned(some, kept), policy, level_of(test, policy.yearly_error))
        if found.verdict == "accepted":
            return True
        kept = coins(rng) if found.verdict == "rejected" else varied(kept, rng)
    return False


def tuned_by_number(arms: Floats, rng: np.random.Generator, policy: GatePolicy) -> bool:
    """Whether a year of candidates that follow the figures has one."""
    some, best, so_far = asked(arms, rng), coins(rng), -1.0
    for test in range(1, NIGHTS + 1):
        kept = varied(best, rng)
        found = judged(*turned(some, kept), policy, level_of(test, policy.yearly_error))
        if found.verdict == "accepted":
            return True
        if found.difference > so_far:
            best, so_far = kept, found.difference
    return False


def with_trials(arms: Floats, rng: np.random.Generator, policy: GatePolicy) -> bool:
    """Whether a year of new candidates has one, when those in doubt are tried on people."""
    some, trial = asked(arms, rng), TrialPolicy()
    test, level, begun = 0, 0.0, -1
    counts = np.zeros((2, len(some)), dtype=np.int64)  # for the candidate on trial, and for live, by query
    for night in range(NIGHTS):
        if begun >= 0:
            queries = rng.choice(len(some), size=PREFERENCES, replace=False)
            np.add.at(counts, (rng.integers(2, size=PREFERENCES), queries), 1)
            verdict = judge_trial(preferences(counts), trial, level).verdict
            if verdict == "better":
                return True
            begun = -1 if verdict == "worse" or night - begun > trial.max_days else begun
        test += 1
        found = judged(*turned(some, coins(rng)), policy, level_of(test, policy.yearly_error))
        if found.verdict == "accepted":
            return True
        if found.verdict == "inconclusive" and (begun < 0 or counts.sum() >= trial.enough_preferences):
            test += 1
            level, begun, counts = level_of(test, policy.yearly_error), night, np.zeros_like(counts)
    return False


YEARS: Final[dict[str, Callable[[Floats, np.random.Generator, GatePolicy], bool]]] = {
    "new": new_each_night,
    "by verdict": tuned_by_verdict,
    "with trials": with_trials,
    "by number": tuned_by_number,
}


def asked(arms: Floats, rng: np.random.Generator) -> Floats:
    """The 1,000 queries of a year."""
    return arms[rng.integers(len(arms), size=1000)]


def coins(rng: np.random.Generator) -> Signs:
    """A candidate without any gain."""
    return rng.random(1000) < 0.5


def varied(kept: Signs, rng: np.random.Generator) -> Signs:
    """One like it, some of whose queries are drawn anew."""
    return np.where(rng.random(len(kept)) < VARIED, coins(rng), kept)


def preferences(counts: npt.NDArray[np.int64]) -> pa.Table:
    """What judge_trial reads."""
    some = np.flatnonzero(counts.sum(axis=0))
    return pa.table({"query_key": some.astype(str), "for_other": counts[0, some], "for_live": counts[1, some]})


def judged(candidate: Floats, live: Floats, policy: GatePolicy, level: float) -> Comparison:
    """Ask the gate."""
    names = [str(place) for place in range(len(live))]
    weights = dict.fromkeys(names, 1.0)
    ones, others = (dict(zip(names, arm.tolist(), strict=True)) for arm in (candidate, live))
    return compare(ones, others, weights, policy, level, candidate=2, live=1)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
