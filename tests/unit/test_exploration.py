"""Exploration: small, fair, and logged with its true probability."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.exploration import ExplorationPolicy, present

DOCUMENTS = st.lists(st.text(min_size=1), unique=True, max_size=12)
PROBABILITIES = st.floats(min_value=0, max_value=1)
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(DOCUMENTS, PROBABILITIES, SEEDS)
def test_what_is_shown_is_the_answer_with_each_document_at_most_one_rank_from_its_own(documents, probability, seed):
    shown = present(documents, np.random.default_rng(seed), ExplorationPolicy(swap_probability=probability))

    assert sorted(shown.document_ids) == sorted(documents)
    assert all(abs(documents.index(document) - position) <= 1 for position, document in enumerate(shown.document_ids))


@given(DOCUMENTS, SEEDS)
def test_without_exploration_the_order_stays_and_the_policy_is_null(documents, seed):
    shown = present(documents, np.random.default_rng(seed), ExplorationPolicy())

    assert list(shown.document_ids) == documents
    assert shown.policy is None
    assert shown.propensities is None


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("probability", [0.1, 0.6, 1.0])
def test_the_propensities_are_how_often_a_document_is_really_shown_there(length, probability):
    documents = [f"d{rank}" for rank in range(length)]
    policy = ExplorationPolicy(swap_probability=probability)
    rng = np.random.default_rng(7)
    rounds = 20_000
    seen: Counter[tuple[int, str]] = Counter()
    said: dict[tuple[int, str], float] = {}
    for _ in range(rounds):
        shown = present(documents, rng, policy)
        places = list(enumerate(shown.document_ids))
        seen.update(places)
        said.update(zip(places, shown.propensities, strict=True))

    for place, propensity in said.items():
        assert seen[place] / rounds == pytest.approx(propensity, abs=0.015), place  # 4 standard errors at most
    for position in range(length):
        assert sum(p for (there, _), p in said.items() if there == position) == pytest.approx(1)


def test_an_answer_that_happened_to_stay_as_it_was_carries_the_policy_too():
    shown = present(["a", "b", "c"], np.random.default_rng(0), ExplorationPolicy(swap_probability=0.001))

    assert shown.document_ids == ("a", "b", "c")
    assert shown.policy == "fairpairs:0.001"
    assert shown.propensities == pytest.approx((0.99975, 0.9995, 0.99975))


def test_the_same_seed_shows_the_same():
    policy = ExplorationPolicy(swap_probability=1)
    documents = [f"d{rank}" for rank in range(10)]
    first, second = (
        [present(documents, rng, policy) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second
    assert len(set(first)) > 1
