"""Slots: few, below the best, filled with what is not on the page, and logged with their true probability."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.exploration import ExplorationPolicy, Presented, gives_slots, present, present_slots
from relevanced.daemon.slots import fill_slots, inclusion_chances

PAGE = [f"d{rank}" for rank in range(1, 11)]
RANKINGS = {"full_text": ["d2", "w1", "w2", "w3"], "7": ["d1", "w2", "p1"], "deeper": ["w1", "b1", "b2", "b3", "b4"]}
NAMES = st.sampled_from([f"d{number}" for number in range(30)])
RANKING = st.lists(NAMES, unique=True, max_size=20)
SEEDS = st.integers(min_value=0, max_value=2**32)


def shown_to_one(page: Sequence[str], rankings: Mapping[str, Sequence[str]], rng: np.random.Generator, policy):
    """One answer, drawn as a search draws it."""
    if gives_slots(rng, policy):
        return present_slots(page, rankings, rng, policy)
    return present(page, rng, policy)


def frequencies(page, rankings, policy, *, rounds=20_000, seed=11):
    """How often each document was really shown at each place, and what the log said of that; (place, document) -> …"""
    rng = np.random.default_rng(seed)
    seen: Counter[tuple[int, str]] = Counter()
    said: dict[tuple[int, str], set[float]] = {}
    for _ in range(rounds):
        shown = shown_to_one(page, rankings, rng, policy)
        for place, propensity in zip(enumerate(shown.document_ids), shown.propensities, strict=True):
            seen[place] += 1
            said.setdefault(place, set()).add(round(propensity, 9))
    return {place: count / rounds for place, count in seen.items()}, said


@given(RANKING, st.dictionaries(st.sampled_from(["full_text", "7", "deeper"]), RANKING), st.data(), SEEDS)
def test_a_page_keeps_its_length_its_head_and_the_order_of_what_is_lives(page, rankings, data, seed):
    slots, first_slot = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 10))
    filled = fill_slots(page, rankings, slots=slots, first_slot=first_slot, rng=np.random.default_rng(seed))

    assert len(filled.document_ids) == len(page) == len(set(filled.document_ids))
    of_live = [name for name, ranker in zip(filled.document_ids, filled.rankers, strict=True) if ranker is None]
    assert of_live == page[: len(of_live)]
    assert list(filled.document_ids[: first_slot - 1]) == page[: first_slot - 1]
    for name, ranker in zip(filled.document_ids[10:], filled.rankers[10:], strict=True):
        assert ranker is None, name
    new = {name for ranking in rankings.values() for name in ranking} - set(page)
    assert len(page) - len(of_live) == min(slots, max(0, min(10, len(page)) - first_slot + 1), len(new))
    assert all(0 < propensity <= 1 for propensity in filled.propensities)
    for name, ranker in zip(filled.document_ids, filled.rankers, strict=True):
        assert name not in page or ranker is None
        assert ranker is None or all(name in rankings[one] for one in ranker.split("+"))


@pytest.mark.parametrize(
    "policy",
    [
        ExplorationPolicy(slot_share=1.0),
        ExplorationPolicy(slot_share=0.4),
        ExplorationPolicy(slot_share=0.6, slots=5, first_slot=2),
        ExplorationPolicy(slot_share=0.5, slots=1, first_slot=1, swap_probability=0.7),
        ExplorationPolicy(slot_share=0.3, slots=7, swap_probability=1.0),
    ],
)
def test_the_propensities_are_how_often_a_document_is_really_shown_there(policy):
    found, said = frequencies(PAGE, RANKINGS, policy)

    for place, frequency in found.items():
        (propensity,) = said[place]
        assert frequency == pytest.approx(propensity, abs=0.015), place  # 4 standard errors at most
    for position in range(len(PAGE)):
        assert sum(p for (there, _), (p,) in said.items() if there == position) == pytest.approx(1)


def test_where_not_all_slots_can_be_filled_an_answer_without_them_says_less_than_is_true_and_by_the_share_at_most():
    found, said = frequencies(PAGE, {"full_text": ["w1"]}, ExplorationPolicy(slot_share=0.3))

    for place, frequency in found.items():
        assert frequency == pytest.approx(max(said[place]), abs=0.015)
        assert max(said[place]) - 0.3 <= min(said[place])


def test_each_ranker_has_the_same_share_of_the_slots_and_its_first_documents_the_most_of_it():
    rankings = {"full_text": [f"w{rank}" for rank in range(30)], "deeper": [f"b{rank}" for rank in range(60)]}
    found, _ = frequencies(PAGE, rankings, ExplorationPolicy(slot_share=1.0))
    by_document = Counter[str]()
    for (_, name), frequency in found.items():
        by_document[name] += frequency

    words, below = ([by_document[f"{letter}{rank}"] for rank in range(60)] for letter in "wb")
    assert sum(words) == pytest.approx(sum(below), abs=0.03)
    assert words[0] > words[2] > words[9] > 0 == sum(words[10:])
    assert below[0] > below[5] > below[39] > 0 == sum(below[40:])


def test_a_document_that_two_rankers_would_show_is_said_to_be_of_both():
    filled = fill_slots(PAGE, RANKINGS, slots=7, first_slot=4, rng=np.random.default_rng(0))
    rankers = dict(zip(filled.document_ids, filled.rankers, strict=True))
    assert {name: rankers.get(name, said) for name, said in [("w1", "full_text+deeper"), ("w2", "full_text+7")]} == {
        "w1": "full_text+deeper",
        "w2": "full_text+7",
    }


@given(st.lists(st.floats(min_value=1e-6, max_value=1), min_size=1, max_size=60), st.data())
def test_chances_become_probabilities_that_sum_to_the_count(chances, data):
    count = data.draw(st.integers(0, len(chances)))
    included = inclusion_chances(np.array(chances), count)
    assert included.sum() == pytest.approx(count)
    assert ((included >= 0) & (included <= 1)).all()
    assert (np.diff(included[np.argsort(chances)]) > -1e-12).all()


@given(RANKING, RANKING, st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_every_propensity_is_one_that_the_log_takes(page, ranking, share, swaps, seed):
    rng = np.random.default_rng(seed)
    policy = ExplorationPolicy(slot_share=share, swap_probability=swaps, slots=3)
    shown = shown_to_one(page, {"full_text": ranking}, rng, policy)
    assert all(0 < propensity <= 1 for propensity in shown.propensities or ())


def test_without_a_ranker_that_has_anything_new_the_page_stays_and_the_policy_is_said():
    for rankings in ({}, {"full_text": ["d3", "d1"]}, {"deeper": []}):
        shown = present_slots(PAGE, rankings, np.random.default_rng(0), ExplorationPolicy(slot_share=0.05))
        assert list(shown.document_ids) == PAGE
        assert shown.policy == "slots:0.05:mixed"
        assert shown.propensities == pytest.approx([1.0] * 10)
        assert set(shown.slots) == {None}


def test_without_a_share_nothing_is_drawn_so_that_a_seed_shows_what_it_showed_before():
    rng = np.random.default_rng(5)
    assert not any(gives_slots(rng, ExplorationPolicy()) for _ in range(10))
    assert rng.random() == np.random.default_rng(5).random()
    assert present(PAGE, rng, ExplorationPolicy()) == Presented(tuple(PAGE), None, None)


def test_one_answer_has_slots_or_swaps_and_its_policy_names_both():
    policy = ExplorationPolicy(slot_share=0.5, swap_probability=1.0)
    rng = np.random.default_rng(2)
    shown = [shown_to_one(PAGE, RANKINGS, rng, policy) for _ in range(200)]
    assert {answer.policy for answer in shown} == {"slots:0.5:mixed+fairpairs:1"}
    for answer in shown:
        of_live = [name for name in answer.document_ids if name in PAGE]
        assert (of_live == PAGE[: len(of_live)]) or answer.slots is None
    assert {answer.slots is None for answer in shown} == {True, False}
