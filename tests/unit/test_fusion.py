import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.fusion import fuse

rankings = st.lists(st.sampled_from("abcdefgh"), unique=True)


def run_of(ranking: list[str]) -> dict[str, dict[str, float]]:
    """A run with this ranking, in the order of no rank."""
    return {"q": {name: -float(ranking.index(name)) for name in sorted(ranking)}}


def ranked(run: dict[str, dict[str, float]]) -> list[str]:
    return sorted(run["q"], key=run["q"].__getitem__, reverse=True)


def test_what_two_rankings_agree_on_is_fused_before_what_one_has_first():
    fused = fuse([run_of(["a", "b", "c"]), run_of(["d", "b"])])
    assert ranked(fused)[0] == "b"
    assert fused["q"]["a"] == fused["q"]["d"] == pytest.approx(1 / 61)


@given(rankings)
def test_one_ranking_stays_as_it_is_alone_and_with_itself(ranking):
    assert ranked(fuse([run_of(ranking)])) == ranked(fuse([run_of(ranking), run_of(ranking)])) == ranking


@given(rankings, rankings)
def test_neither_ranking_is_preferred_and_no_document_is_lost(one, other):
    fused = fuse([run_of(one), run_of(other)])
    assert fused == fuse([run_of(other), run_of(one)])
    assert fused["q"].keys() == {*one, *other}


@given(rankings, rankings)
def test_a_document_that_both_rank_higher_is_before_the_other(one, other):
    order = {name: rank for rank, name in enumerate(ranked(fuse([run_of(one), run_of(other)])))}
    for name in {*one} & {*other}:
        for behind in {*one[one.index(name) + 1 :]} & {*other[other.index(name) + 1 :]}:
            assert order[name] < order[behind]


def test_a_query_that_one_run_leaves_out_has_the_ranking_of_the_other():
    assert fuse([{"q": {"a": 2.0, "b": 1.0}}, {}]) == {"q": {"a": 1 / 61, "b": 1 / 62}}
