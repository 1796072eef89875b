import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced.daemon.anchors import anchors_of, differences, forgotten, mixed, remembered
from relevanced.daemon.gate import Difference

QUERIES = [f"q{number}" for number in range(40)]
ndcg = st.floats(0, 1)
answers = st.dictionaries(st.sampled_from(QUERIES), ndcg)
places = st.lists(st.integers(0, 500), unique=True, max_size=120)


@given(st.lists(answers, max_size=4), ndcg)
def test_an_anchor_is_what_every_version_answers_well_and_one_version_more_adds_none(versions, least):
    anchors = anchors_of(versions, least)
    assert all(one[query] >= least for one in versions for query in anchors)
    assert anchors == anchors_of(versions[::-1], least)
    for one in versions:
        assert anchors <= anchors_of([one], least)
    if len(versions) == 1:
        assert anchors == {query for query, value in versions[0].items() if value >= least}


def test_before_any_version_there_is_no_anchor():
    assert anchors_of([], 0.0) == set()


@given(places, places, st.floats(0, 0.9), st.integers(0, 3))
def test_all_that_is_new_is_taught_and_anchors_are_at_most_their_share(new, anchors, share, seed):
    taught = mixed(new, anchors, share, seed)
    replayed = taught[len(new) :]
    assert taught[: len(new)] == new
    assert set(replayed) <= set(anchors)
    assert len(set(replayed)) == len(replayed)
    assert len(replayed) == min(len(anchors), round(len(new) * share / (1 - share)))
    assert taught == mixed(new, anchors, share, seed)


def test_a_share_of_none_replays_nothing_and_another_seed_draws_others():
    assert mixed([1, 2], [3, 4], 0.0, 0) == [1, 2]
    assert mixed(range(10), range(100, 200), 0.5, 0) != mixed(range(10), range(100, 200), 0.5, 1)


@given(st.integers(1, 60), st.integers(0, 1000), st.floats(-0.3, 0.3))
@settings(max_examples=15)
def test_a_difference_lies_within_its_interval_and_is_against_each_alone(queries, seed, shift):
    rng = np.random.default_rng(seed)
    names = [f"q{number}" for number in range(queries)]
    mine = dict(zip(names, rng.random(queries).tolist(), strict=True))
    worse = {query: float(np.clip(value + shift, 0, 1)) for query, value in mine.items()}
    weights = dict(zip(names, rng.uniform(1, 3, queries).tolist(), strict=True))
    found = differences(mine, {"the same": mine, "worse": worse}, weights)
    assert found["the same"] == pytest.approx((0, -1, 1) if queries == 1 else (0, 0, 0), abs=1e-6)
    mean, low, high = found["worse"]
    expected = np.average([mine[query] - worse[query] for query in names], weights=list(weights.values()))
    assert mean == pytest.approx(expected)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert found["worse"] == pytest.approx(differences(mine, {"worse": worse}, weights)["worse"], abs=1e-6)


def test_versions_that_were_asked_different_queries_are_not_compared():
    with pytest.raises(ValueError, match="different queries"):
        differences({"a": 1.0}, {"live": {"b": 1.0}}, {"a": 1.0, "b": 1.0})


@given(st.floats(-0.2, 0.2), st.floats(0, 0.1), st.integers(0, 30), st.none() | st.floats(0, 0.1))
def test_harm_is_what_is_more_than_allowed_and_beyond_luck(mean, half, queries, most):
    found = {"live 2": Difference(mean, mean - half, mean + half)}
    (*objections,) = forgotten("general", "queries of the general set", found, queries, most)
    harm = most is not None and queries >= 10 and mean < -most and mean + half < 0
    assert [one.proven for one in objections] == [True] * harm


def test_an_objection_says_how_much_was_lost_against_whom_and_what_was_allowed():
    against = {"base version 1": Difference(-0.034, -0.05, -0.02), "live 2": Difference(-0.01, -0.02, -0.001)}
    (one,) = forgotten("general", "queries of the general set", against, 300, 0.02)
    assert one.reason == "general"
    assert one.sentence == (
        "on 300 queries of the general set NDCG@10 fell by 0.034 (0.020 to 0.050) against base version 1, where 0.02 is"
        " allowed"
    )


def test_a_fall_of_the_anchors_is_told_and_of_a_few_nothing():
    anchors = {"queries": 83, "difference": -0.012, "low": -0.02, "high": -0.004}
    general = {"queries": 300, "against": {"base version 1": {"difference": 0.01, "low": 0.001, "high": 0.02}}}
    assert remembered(anchors, None) == (
        " On 83 anchors, which all versions so far answer well, NDCG@10 fell by 0.012 (0.004 to 0.020)."
    )
    assert remembered({**anchors, "queries": 3}, None) == remembered({**anchors, "difference": 0.0}, None) == ""
    assert remembered(None, general) == (
        " On 300 queries of the general set NDCG@10 rose by 0.010 (0.001 to 0.020) against base version 1."
    )
