"""Two rankings in one answer: neither has the better places."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.interleaving import DRAFTED, takes_part, team_draft

NAMES = st.sampled_from([f"d{number}" for number in range(30)])
RANKINGS = st.lists(NAMES, unique=True, max_size=20)
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(RANKINGS, RANKINGS, st.integers(min_value=1, max_value=25), SEEDS)
def test_each_puts_there_what_it_ranks_best_of_what_is_left(live, other, length, seed):
    drawn = team_draft(live, other, length, np.random.default_rng(seed))

    assert len(set(drawn.document_ids)) == len(drawn.document_ids) <= length
    assert len(drawn.document_ids) == min(length, len(set(live) | set(other)))
    for place, (name, team) in enumerate(zip(drawn.document_ids, drawn.teams, strict=True)):
        for ranking in {"live": [live], "other": [other], "both": []}[team]:
            left = [document for document in ranking if document not in drawn.document_ids[:place]]
            assert name == left[0]


@given(RANKINGS, RANKINGS, SEEDS)
def test_nobody_picks_twice_before_the_other_picks_while_both_have_something(live, other, seed):
    drawn = team_draft(live, other, 10, np.random.default_rng(seed))
    taken = 0
    for taken, place in enumerate(range(0, min(len(drawn.document_ids), DRAFTED) - 1, 2)):
        shown = set(drawn.document_ids[:place])
        if all(len([name for name in ranking if name not in shown]) >= 2 for ranking in (live, other)):
            first, second = drawn.teams[place : place + 2]
            assert first == "both" or {first, second} == {"live", "other"}, taken


@given(RANKINGS, SEEDS)
def test_of_two_that_agree_the_answer_is_theirs_and_tells_nothing(ranking, seed):
    drawn = team_draft(ranking, ranking, 20, np.random.default_rng(seed))
    assert list(drawn.document_ids) == ranking
    assert set(drawn.teams[:DRAFTED]) <= {"both"}
    assert all(propensity == 1 for propensity in drawn.propensities)


def test_below_the_page_live_goes_on():
    live, other = [f"a{rank}" for rank in range(20)], [f"b{rank}" for rank in range(20)]
    drawn = team_draft(live, other, 14, np.random.default_rng(0))
    assert drawn.teams.count("other") == DRAFTED / 2
    assert drawn.document_ids[DRAFTED:] == ("a5", "a6", "a7", "a8")
    assert drawn.teams[DRAFTED:] == ("both",) * 4  # or whoever clicks down there would speak for live


@pytest.mark.parametrize(
    ("live", "other"), [("abcdefg", "badcgfe"), ("abcdefghijkl", "lkjihgfedcba"), ("abc", "xyz"), ("ab", "")]
)
def test_the_propensities_are_how_often_a_document_is_really_shown_there(live, other):
    rng, rounds = np.random.default_rng(5), 4_000
    seen: Counter[tuple[int, str]] = Counter()
    said: dict[tuple[int, str], float] = {}
    for _ in range(rounds):
        drawn = team_draft(live, other, 10, rng)
        places = list(enumerate(drawn.document_ids))
        seen.update(places)
        said.update(zip(places, drawn.propensities, strict=True))
    for place, propensity in said.items():
        assert seen[place] / rounds == pytest.approx(propensity, abs=0.04), place  # 5 standard errors at most


@pytest.mark.parametrize("length", [10, 15])
@pytest.mark.parametrize("held", [3, 10])
def test_who_clicks_without_looking_prefers_neither(length, held):
    rng = np.random.default_rng(6)
    live, other = [f"d{rank}" for rank in range(held)], [f"d{rank}" for rank in (3, 1, 12, 0, 11, 5, 2, 14, 7, 8)]
    credit = []
    for _ in range(10_000):
        drawn = team_draft(live, other, length, rng)
        values = np.array([{"live": -1, "other": 1, "both": 0}[team] for team in drawn.teams])
        credit.append(values[rng.random(len(values)) < 1 / np.arange(1, len(values) + 1)].sum())
    assert abs(np.mean(credit)) < 4 * np.std(credit) / np.sqrt(len(credit))


@given(st.integers(min_value=1), st.text())
def test_a_session_takes_part_or_not_for_ever_and_more_take_part_in_a_larger_share(trial_id, session):
    shares = [takes_part(trial_id, session, share / 10) for share in range(11)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (False, True)


def test_each_trial_draws_its_own_sessions_in_the_share_that_was_asked_for():
    one, two = ({f"s{n}" for n in range(5000) if takes_part(trial, f"s{n}", 0.3)} for trial in (1, 2))
    assert len(one) == pytest.approx(1500, abs=150)
    assert len(one & two) == pytest.approx(450, abs=90)
