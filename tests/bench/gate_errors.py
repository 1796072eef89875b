"""
How often the gate is wrong: candidates that are no better and are accepted, better ones that are not.

    relevanced compare 1 2 --json > both.json
    python -m tests.bench.gate_errors both.json [--tests 2000] [--years 100]

Over real NDCG@10 of the same queries by two versions. A candidate without any gain has the differences with their signs
drawn; one with a gain has so many more of its queries keep the better sign that the mean is that gain. Queries are
drawn with replacement. A year is 365 candidates one after another, none of them better, all judged on the same queries,
as a daemon that tries one each night does. The last line is one JSON object.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from relevanced.daemon.gate import GatePolicy, compare

Floats = npt.NDArray[np.float64]

SIZES: Final = (200, 1000, 5000)
GAINS: Final = (0.0, 0.01, 0.02, 0.05)
NIGHTS: Final = 365


def main() -> None:
    """Print the shares of accepted candidates by gain and number of queries, and those of whole years."""
    arguments = argparse.ArgumentParser(description="Error rates of the gate over real differences of two versions.")
    arguments.add_argument("file", type=Path, help="what `relevanced compare A B --json` printed")
    arguments.add_argument("--tests", type=int, default=2000)
    arguments.add_argument("--years", type=int, default=100)
    given = arguments.parse_args()
    queries = json.loads(given.file.read_text())["queries"]
    arms = np.array([[query["first"], query["second"]] for query in queries])
    rng, policy = np.random.default_rng(0), GatePolicy()
    titles = "".join(f"{'gain ' + format(gain, '.2f'):>12}" for gain in GAINS)
    print(f"{'queries':>8}{titles}   accepted of {given.tests:,} candidates")  # noqa: T201
    accepted = {}
    for size in SIZES:
        shares = []
        for gain in GAINS:
            won = sum(is_accepted(*drawn(arms, size, gain, rng), policy) for _ in range(given.tests))
            shares.append(won / given.tests)
        accepted[size] = dict(zip(map(str, GAINS), shares, strict=True))
        print(f"{size:8,}" + "".join(f"{share:12.1%}" for share in shares), flush=True)  # noqa: T201
    years = sum(has_false_promotion(arms, rng, policy) for _ in range(given.years)) / given.years
    print(f"Of {given.years} years of {NIGHTS} candidates without any gain, {years:.0%} have a false promotion.")  # noqa: T201
    print(json.dumps({"bench": "gate_errors", "accepted": accepted, "years_with_a_false_promotion": years}))  # noqa: T201


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
    better, worse = some.max(axis=1), some.min(axis=1)
    kept = rng.random(size) < keep
    return np.where(kept, better, worse), np.where(kept, worse, better)


def has_false_promotion(arms: Floats, rng: np.random.Generator, policy: GatePolicy) -> bool:
    """Try a candidate without any gain each night of a year, on the same 1,000 queries."""
    some = arms[rng.integers(len(arms), size=1000)]
    for _ in range(NIGHTS):
        kept = rng.random(len(some)) < 0.5
        first, second = np.where(kept, some[:, 0], some[:, 1]), np.where(kept, some[:, 1], some[:, 0])
        if is_accepted(first, second, policy):
            return True
    return False


def is_accepted(candidate: Floats, live: Floats, policy: GatePolicy) -> bool:
    """Ask the gate."""
    names = [str(place) for place in range(len(live))]
    weights = dict.fromkeys(names, 1.0)
    ones, others = (dict(zip(names, arm.tolist(), strict=True)) for arm in (candidate, live))
    return compare(ones, others, weights, policy, candidate=2, live=1).verdict == "accepted"


if __name__ == "__main__":
    main()
