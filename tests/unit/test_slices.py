import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.gate import GatePolicy, compare
from relevanced.daemon.slices import (
    SLICED,
    Known,
    by_attribute,
    by_frequency,
    by_time,
    by_what_live_knew,
    harmed,
    slices_of,
)

QUERIES = [f"{word} {other}" for word in ("rash", "itch", "fever") for other in ("skin", "head", "eye", "ear")]
DOCUMENTS = [f"d{number}" for number in range(6)]
known = st.none() | st.builds(
    Known, query_keys=st.sets(st.sampled_from(QUERIES)), positive_ids=st.sets(st.sampled_from(DOCUMENTS))
)


@st.composite
def contests(draw):
    """Both arms' NDCG@10, the weights, the qrels, and what holds each query out."""
    queries = draw(st.sets(st.sampled_from(QUERIES), min_size=1))
    of_each = lambda values: {query: draw(values) for query in sorted(queries)}  # noqa: E731
    qrels = of_each(st.dictionaries(st.sampled_from(DOCUMENTS), st.floats(0.5, 1), min_size=1))
    ndcg = of_each(st.floats(0, 1)), of_each(st.floats(0, 1))
    return *ndcg, of_each(st.floats(1, 3)), qrels, of_each(st.sampled_from(["hash", "time", "both"]))


def ways(qrels, held_out_by, known):
    """All ways to part the queries that there are."""
    actors = {query: 1 + len(grades) for query, grades in qrels.items()}
    applications = {query: max(grades) for query, grades in qrels.items()}
    return [
        by_time(held_out_by),
        by_frequency(actors),
        by_attribute("application", applications),
        *by_what_live_knew(qrels, known),
    ]


@given(contests(), known)
def test_the_slices_of_a_kind_part_the_queries_and_their_weighted_means_give_back_the_whole(contest, known):
    candidate, live, weights, qrels, held_out_by = contest
    kinds = ways(qrels, held_out_by, known)
    measured = slices_of(dict.fromkeys(SLICED, candidate), dict.fromkeys(SLICED, live), weights, kinds)
    whole = compare(candidate, live, weights, GatePolicy(), 0.025, candidate=2, live=1)
    counts = [weights[query] for query in live]
    means = {
        "difference": whole.difference,
        "live_ndcg@10": np.average(list(live.values()), weights=counts),
        "ndcg@10": np.average([candidate[query] for query in live], weights=counts),
    }
    assert len(measured) == sum(len(set(kind.values())) for kind in kinds)
    for kind in kinds:
        assert kind.keys() == qrels.keys()
        slices = [measured[name] for name in set(kind.values())]
        assert sum(one["queries"] for one in slices) == whole.queries
        assert sum(one["share"] for one in slices) == pytest.approx(1)
        for name, mean in means.items():
            assert sum(one["share"] * one[name] for one in slices) == pytest.approx(mean, abs=1e-9)


@given(contests(), known)
def test_a_slice_is_measured_as_if_it_were_the_whole_but_for_its_interval(contest, known):
    candidate, live, weights, qrels, held_out_by = contest
    kinds = ways(qrels, held_out_by, known)
    measured = slices_of(dict.fromkeys(SLICED, candidate), dict.fromkeys(SLICED, live), weights, kinds)
    json.dumps(measured, allow_nan=False)  # Postgres takes no infinity
    for kind in kinds:
        for name in set(kind.values()):
            arms = ({query: arm[query] for query in arm if kind[query] == name} for arm in (candidate, live))
            alone = compare(*arms, weights, GatePolicy(confidence=0.95), 0.025, candidate=2, live=1)
            one = measured[name]
            assert (one["difference"], one["queries"]) == (pytest.approx(alone.difference), alone.queries)
            # Together they hold where alone one in twenty would not.
            assert -1 <= one["low"] <= alone.low + 1e-9
            assert alone.high - 1e-9 <= one["high"] <= 1
            assert one["mrr@10"] == {key: one[key] for key in ("difference", "low", "high")}  # of the same values


def test_what_live_was_trained_on_tells_novel_from_known():
    qrels = {"skin rash": {"d1": 0.9, "d2": 0.9}, "fever": {"d2": 0.9}}
    trained = Known(query_keys={"rashes of the skin"}, positive_ids={"d1"})
    assert by_what_live_knew(qrels, trained) == [
        {"skin rash": "seen_queries", "fever": "novel_queries"},
        {"skin rash": "known_documents", "fever": "novel_documents"},
    ]


def test_recent_is_what_time_holds_out_whatever_its_hash():
    assert by_time({"a": "time", "b": "hash", "c": "both"}) == {
        "a": "recent_queries",
        "b": "earlier_queries",
        "c": "recent_queries",
    }


def test_to_the_base_model_everything_is_novel_so_there_is_no_slice():
    assert by_what_live_knew({"a": {"d": 1.0}}, None) == []
    assert slices_of({}, {}, {"a": 1.0}, []) == {}


def test_queries_none_of_which_is_asked_part_into_nothing():
    kinds = by_what_live_knew({}, Known(query_keys=(), positive_ids=()))
    assert slices_of({}, {}, {}, kinds) == {}


@given(st.dictionaries(st.sampled_from(QUERIES), st.integers(1, 1000), min_size=3))
def test_what_is_in_the_head_is_typed_no_less_than_what_is_behind_it(actors):
    kind = by_frequency(actors)
    order = ["head_queries", "torso_queries", "tail_queries"]
    typed = [[actors[query] for query in actors if kind[query] == name] for name in order]
    assert max(actors.values()) in typed[0]
    for before, behind in itertools.pairwise(typed):
        assert not before or not behind or min(before) >= max(behind)


def test_a_third_of_what_is_typed_is_the_head_however_few_its_queries():
    kind = by_frequency({"often": 100, **{f"twice {number}": 2 for number in range(50)}, "rest": 98})
    assert (kind["often"], kind["rest"]) == ("head_queries", "torso_queries")
    assert set(kind.values()) == {"head_queries", "torso_queries", "tail_queries"}


def test_rare_values_of_an_attribute_are_one_slice_and_none_is_another():
    values = {f"{name}{number}": name for name in "abcdefghijklmn" for number in range(2 if name < "k" else 1)}
    kind = by_attribute("device", {**values, "nowhere": None})
    assert kind["a0"] == "device a"
    assert {kind["k0"], kind["n0"]} == {"device (others)"}
    assert kind["nowhere"] == "device (none)"
    assert len(set(kind.values())) == 12


def slice_of(difference, half):
    return {"queries": 1312, "difference": difference, "low": difference - half, "high": difference + half}


@pytest.mark.parametrize(
    ("difference", "half", "is_harmed"),
    [(-0.05, 0.03, True), (-0.05, 0.06, False), (-0.015, 0.001, False), (0.1, 0, False)],
)
def test_a_slice_is_harmed_when_it_loses_more_than_is_borne_and_not_by_luck(difference, half, is_harmed):
    assert bool(harmed({"tail_queries": slice_of(difference, half)}, GatePolicy())) == is_harmed


def test_a_few_queries_that_fall_alike_prove_no_harm():
    assert not harmed({"device tablet": {**slice_of(-0.37, 0.0), "queries": 9}}, GatePolicy())


def test_a_harmed_slice_is_called_by_its_name():
    (objection,) = harmed({"tail_queries": slice_of(-0.05, 0.03)}, GatePolicy())
    assert (objection.reason, objection.proven) == ("slice tail_queries", True)
    assert objection.sentence == "NDCG@10 fell by 0.050 (0.020 to 0.080) on the 1,312 of tail_queries"
