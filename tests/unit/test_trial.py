"""The verdict of a trial: right at any time, however often it is looked at."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.trial import TrialPolicy, judge_trial

POLICY = TrialPolicy(share=0.5)
COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60)


def table(for_other, for_live) -> pa.Table:
    keys = [f"q{number}" for number in range(len(for_other))]
    return pa.table({"query_key": keys, "for_other": pa.array(for_other), "for_live": pa.array(for_live)})


def years_of_luck(rng, gain: float, queries: int, preferences: int, spread: float) -> str | None:
    """Look at a trial again and again while preferences come in; the first verdict, if any."""
    popularity = 1 / np.arange(1, queries + 1)
    asked = rng.choice(queries, preferences, p=popularity / popularity.sum())
    # Of each query one version is better for everybody who asks; only over queries is neither.
    taste = np.clip(0.5 * (1 + gain) + spread * rng.standard_normal(queries), 0, 1)
    for_other = rng.random(preferences) < taste[asked]
    for looked in range(40, preferences + 1, 20):
        counts = [np.bincount(asked[:looked][for_other[:looked] == side], minlength=queries) for side in (1, 0)]
        if (verdict := judge_trial(table(*counts), POLICY).verdict) != "undecided":
            return verdict
    return None


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_of_two_equal_versions_neither_wins_by_being_looked_at_often(spread):
    rng = np.random.default_rng(11)
    verdicts = [years_of_luck(rng, 0.0, 400, 1500, spread) for _ in range(150)]
    assert sum(verdict is not None for verdict in verdicts) <= 0.05 * 150 + 3 * np.sqrt(0.05 * 0.95 * 150)


@pytest.mark.parametrize(("gain", "verdict"), [(0.3, "better"), (-0.3, "worse")])
def test_a_real_difference_is_found(gain, verdict):
    rng = np.random.default_rng(12)
    verdicts = [years_of_luck(rng, gain, 400, 1500, 0.15) for _ in range(40)]
    assert verdicts.count(verdict) >= 32


@given(COUNTS)
def test_what_is_said_of_the_other_is_the_opposite_of_what_is_said_of_live(counts):
    for_other, for_live = [one for one, _ in counts], [two for _, two in counts]
    found, mirrored = judge_trial(table(for_other, for_live), POLICY), judge_trial(table(for_live, for_other), POLICY)
    opposite = {"better": "worse", "worse": "better", "undecided": "undecided"}
    assert mirrored.verdict == opposite[found.verdict]
    assert mirrored.mean == pytest.approx(-found.mean)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert -1 <= found.low <= found.mean <= found.high <= 1


def test_one_popular_query_decides_nothing():
    assert judge_trial(table([5000], [10]), POLICY).verdict == "undecided"


def test_the_preferences_of_one_query_are_not_independent_of_one_another():
    many, few = judge_trial(table([3] * 300, [1] * 300), POLICY), judge_trial(table([300] * 3, [100] * 3), POLICY)
    assert many.verdict == "better"
    mixed = judge_trial(table([400, 0] * 11, [0, 300] * 11), POLICY)
    assert (mixed.verdict, few.verdict) == ("undecided", "undecided")


def test_the_sentence_has_the_figures():
    assert str(judge_trial(table([2] * 40, [1] * 40), POLICY)) == (
        "80 preferences for it and 40 for live on 40 held-out queries (+0.33, +0.05 to +0.61)"
    )


@given(COUNTS, st.floats(1e-6, 0.0249))
def test_a_smaller_level_only_takes_back_what_was_found_better(counts, level):
    both = table([one for one, _ in counts], [two for _, two in counts])
    by_confidence, by_level = judge_trial(both, POLICY).verdict, judge_trial(both, POLICY, level).verdict
    assert by_level == by_confidence or (by_confidence, by_level) == ("better", "undecided")


def test_the_level_of_the_confidence_is_its_half():
    both = table([8] * 40, [2] * 40)
    assert judge_trial(both, POLICY, 0.025) == judge_trial(both, POLICY)
    assert judge_trial(table([3] * 40, [2] * 40), POLICY, 1e-5).verdict == "undecided"
