import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from relevanced.daemon.metrics import mean_interval
from relevanced.daemon.resampling import lower_ends, resampled_means, simultaneous_intervals

ALL = np.ones((1, 1), dtype=bool)


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_draws_are_those_that_scipy_makes_with_the_same_seed(queries, seed):
    values = np.random.default_rng(seed).choice([-0.5, 0.0, 0.0, 0.1, 0.37], (queries, 1))
    ours = resampled_means(values, np.ones(queries), np.ones((queries, 1), dtype=bool), resamples=200, seed=seed)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=200, rng=np.random.default_rng(seed), method="percentile"
    )
    assert ours[:, 0, 0] == pytest.approx(theirs.bootstrap_distribution, abs=1e-6)
    assert np.quantile(ours[:, 0, 0], [0.025, 0.975]) == pytest.approx(list(theirs.confidence_interval), abs=1e-6)


@given(st.integers(2, 60), st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=30)
def test_each_draw_is_the_weighted_mean_of_the_queries_that_it_drew(queries, seed, slices):
    rng = np.random.default_rng(seed)
    values, weights = rng.uniform(-1, 1, (queries, 2)), rng.uniform(1, 3, queries)
    members = rng.random((queries, slices)) < 0.6
    means = resampled_means(values, weights, members, resamples=5, seed=seed)
    for row, drawn in zip(means, np.random.default_rng(seed).integers(0, queries, (5, queries)), strict=True):
        for one, belongs in zip(row, members.T, strict=True):
            some = drawn[belongs[drawn]]
            if len(some):
                assert one == pytest.approx(np.average(values[some], axis=0, weights=weights[some]), abs=1e-5)


def test_of_one_slice_the_interval_is_about_that_of_students_t():
    rng = np.random.default_rng(4)
    values, weights = rng.choice([-0.4, 0.0, 0.0, 0.5], 400), rng.uniform(1, 3, 400)
    found = simultaneous_intervals(values[:, None], weights, np.ones((400, 1), dtype=bool), 0.95)
    mean, low, high = mean_interval(values.tolist(), 0.95, weights.tolist())
    assert found.mean[0, 0] == pytest.approx(mean)
    assert (found.low[0, 0], found.high[0, 0]) == pytest.approx((low, high), abs=0.1 * (high - low))


@given(st.integers(1, 200), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=30)
def test_more_slices_make_no_interval_narrower_and_each_holds_its_mean(queries, slices, seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 1, (queries, 1))
    members = rng.random((queries, slices)) < 0.5
    members[rng.integers(queries), :] = True
    few = simultaneous_intervals(values, np.ones(queries), members[:, :1], 0.9, resamples=300)
    many = simultaneous_intervals(values, np.ones(queries), members, 0.9, resamples=300)
    assert (many.low[0, 0], many.high[0, 0]) <= (few.low[0, 0] + 1e-9, np.inf)
    assert many.high[0, 0] >= few.high[0, 0] - 1e-9
    assert np.all((many.low <= many.mean) & (many.mean <= many.high))


def test_all_hold_together_as_often_as_is_said_and_are_narrower_than_bonferronis_where_slices_overlap():
    """Twelve slices, each of nine tenths of the queries."""
    rng = np.random.default_rng(5)
    together, wider = 0, 0
    for _ in range(200):
        values = rng.choice([-0.4, 0.0, 0.0, 0.0, 0.4], 300)
        members = rng.random((300, 12)) < 0.9
        found = simultaneous_intervals(values[:, None], np.ones(300), members, 0.9, resamples=1000)
        together += bool(np.all((found.low <= 0) & (found.high >= 0)))
        one = mean_interval(values[members[:, 0]].tolist(), 1 - 0.1 / 12)
        wider += one.high - one.low > 1.1 * (found.high[0, 0] - found.low[0, 0])
    assert 0.9 - 3 * np.sqrt(0.9 * 0.1 / 200) <= together / 200 <= 0.9 + 3 * np.sqrt(0.9 * 0.1 / 200)
    assert wider == 200


def test_disjoint_slices_hold_together_too_small_ones_among_them():
    rng = np.random.default_rng(6)
    together = 0
    members = np.repeat(np.eye(6, dtype=bool), [12, 20, 40, 80, 160, 320], axis=0)
    for _ in range(300):
        values = rng.choice([-0.4, 0.0, 0.0, 0.4], len(members))
        found = simultaneous_intervals(values[:, None], np.ones(len(members)), members, 0.9, resamples=500)
        together += bool(np.all((found.low <= 0) & (found.high >= 0)))
    assert together / 300 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 300)


def test_a_single_query_says_nothing_and_equal_ones_are_sure():
    values = np.array([0.25] + [0.37] * 20 + [0.1, 0.9] * 10)[:, None]
    members = np.repeat(np.eye(3, dtype=bool), [1, 20, 20], axis=0)
    found = simultaneous_intervals(values, np.ones(41), members, 0.95)
    assert (found.low[0, 0], found.high[0, 0]) == (-np.inf, np.inf)
    assert (found.low[1, 0], found.high[1, 0]) == pytest.approx((0.37, 0.37))
    assert 0.2 < found.low[2, 0] < found.mean[2, 0] < found.high[2, 0] < 0.8


def test_the_best_of_many_that_gain_nothing_is_seldom_called_better():
    """Twenty recipes that differ by luck alone, half of it common to them; taken alone, one often looks good."""
    rng = np.random.default_rng(7)
    wrong, naive = 0, 0
    for number in range(200):
        common = rng.choice([-0.4, 0.0, 0.0, 0.4], (60, 1))
        values = (common + rng.choice([-0.4, 0.0, 0.0, 0.4], (60, 20))) / 2
        wrong += lower_ends(values, 0.95, resamples=500, seed=number).max() > 0
        naive += max(mean_interval(one.tolist(), 0.9).low for one in values.T) > 0
    assert wrong / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert naive / 200 > 0.2


@given(st.integers(10, 200), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=25)
def test_a_low_end_lies_below_its_mean_and_falls_with_company(queries, measures, seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (queries, measures))
    alone, together = (lower_ends(one, 0.9, resamples=300) for one in (values[:, :1], values))
    assert np.all(together <= values.mean(axis=0))
    assert together[0] <= alone[0] + 1e-9


def test_what_gains_the_same_everywhere_surely_gains_it_and_what_is_the_same_gains_nothing():
    assert lower_ends(np.tile([0.25, 0.0], (20, 1)), 0.95, resamples=100) == pytest.approx([0.25, 0.0])
