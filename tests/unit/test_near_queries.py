from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.near_queries import near_queries
from relevanced.daemon.queries import cluster_key

words = st.sampled_from(["skin", "rash", "rashes", "itch", "itching", "the", "fever", "child", "night", "foot"])
queries = st.sets(st.lists(words, min_size=1, max_size=6).map(" ".join), max_size=25)


def similarity(one: str, other: str) -> float:
    sets = [set(cluster_key(key).split()) for key in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@given(queries, st.sampled_from([0.3, 0.5, 0.6, 0.75, 1.0]))
def test_exactly_the_pairs_that_share_enough_stems_are_near(keys, least):
    near = near_queries(keys, least)
    found = {(one, other) for one, others in near.items() for other in others}
    assert found == {pair for pair in permutations(keys, 2) if similarity(*pair) >= least}
    assert all(others == sorted(set(others)) and others for others in near.values())


@given(queries)
def test_the_order_in_which_queries_come_does_not_matter(keys):
    assert near_queries(sorted(keys), 0.6) == near_queries(sorted(keys, reverse=True), 0.6)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("skin rash", "a rash of the skin", True),
        ("skin rash", "skin rash child", True),
        ("skin rash", "skin cancer", False),
        ("c", "c++", False),
        ("ringing in my left ear at night", "ringing in left ear", True),
    ],
)
def test_what_is_near_is_what_a_reader_would_call_so(one, other, near):
    assert (other in near_queries([one, other], 0.6).get(one, [])) is near


def test_without_queries_nothing_is_near():
    assert near_queries([], 0.6) == {}
