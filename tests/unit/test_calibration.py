import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from relevanced.daemon.calibration import Calibration, calibrate, read_calibration

SCORES = st.floats(-1, 1).map(lambda score: round(score, 6))
runs = st.dictionaries(
    st.sampled_from("abcdef"), st.dictionaries(st.sampled_from("uvwxyz"), SCORES, min_size=1), min_size=1
)


def drawn(rng, mean: float, spread: float) -> dict[str, dict[str, float]]:
    return {
        f"q{query}": {f"d{place}": float(score) for place, score in enumerate(rng.normal(mean, spread, 30))}
        for query in range(300)
    }


def passing(run, threshold: float, worth=lambda score: score) -> float:
    shown = [sorted(scores.values(), reverse=True)[:10] for scores in run.values()]
    return float(np.mean([worth(score) >= threshold for scores in shown for score in scores]))


def test_as_many_documents_pass_a_threshold_as_did_before():
    rng = np.random.default_rng(1)
    old, new, later = drawn(rng, 0.3, 0.1), drawn(rng, 0.6, 0.05), drawn(rng, 0.6, 0.05)
    calibration = calibrate(new, old, 1)
    assert calibration is not None
    for threshold in (0.35, 0.4, 0.45, 0.5):
        assert abs(passing(later, threshold) - passing(old, threshold)) > 0.02  # what happens without
        assert passing(later, threshold, calibration.of) == pytest.approx(passing(old, threshold), abs=0.03)


@given(runs, runs, st.lists(SCORES, min_size=2))
def test_what_is_higher_is_worth_no_less(run, scaled, scores):
    calibration = calibrate(run, scaled, 1)
    assert calibration is not None
    worth = [calibration.of(score) for score in sorted(scores)]
    assert all(one <= two + 1e-12 for one, two in itertools.pairwise(worth))


@given(runs, SCORES)
def test_on_its_own_scale_a_score_is_worth_itself(run, score):
    calibration = calibrate(run, run, 3)
    assert calibration is not None
    assert calibration.of(score) == pytest.approx(score, abs=1e-9)
    assert calibration.shift == 0


@given(runs, runs)
def test_it_is_read_from_the_manifest_as_it_was_written(run, scaled):
    calibration = calibrate(run, scaled, 1)
    assert calibration is not None
    manifest = json.loads(json.dumps({"metrics": {"calibration": calibration.numbers()}}, allow_nan=False))
    assert read_calibration(manifest) == calibration


def test_where_nothing_is_shown_there_is_no_map():
    assert calibrate({}, {"a": {"d": 1.0}}, 1) is None
    assert calibrate({"a": {"d": 1.0}}, {"a": {}}, 1) is None
    assert read_calibration({}) is None
    assert Calibration(1, [0.0, 1.0], [0.0, 0.5], 0.5).of(1.2) == pytest.approx(0.7)


@given(st.lists(SCORES, min_size=1, max_size=10), st.lists(SCORES, min_size=1, max_size=10))
def test_the_shift_is_that_of_kolmogorov_and_smirnov(new, old):
    runs = ({"q": {f"d{place}": score for place, score in enumerate(scores)}} for scores in (new, old))
    calibration = calibrate(*runs, 1)
    assert calibration is not None
    assert calibration.shift == pytest.approx(stats.ks_2samp(new, old, method="exact").statistic)
