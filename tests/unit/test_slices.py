import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.gate import GatePolicy, compare
from relevanced.daemon.slices import Known, kinds_of, slices_of

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


@given(contests(), known)
def test_the_slices_of_a_kind_part_the_queries_and_their_weighted_means_give_back_the_whole(contest, known):
    candidate, live, weights, qrels, held_out_by = contest
    kinds = kinds_of(qrels, held_out_by, known)
    measured = slices_of(candidate, live, weights, kinds, 0.95)
    whole = compare(candidate, live, weights, GatePolicy(), candidate=2, live=1)
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
def test_a_slice_is_measured_as_if_it_were_the_whole(contest, known):
    candidate, live, weights, qrels, held_out_by = contest
    kinds = kinds_of(qrels, held_out_by, known)
    measured = slices_of(candidate, live, weights, kinds, 0.9)
    json.dumps(measured, allow_nan=False)  # Postgres takes no infinity
    for kind in kinds:
        for name in set(kind.values()):
            arms = ({query: arm[query] for query in arm if kind[query] == name} for arm in (candidate, live))
            alone = compare(*arms, weights, GatePolicy(confidence=0.9), candidate=2, live=1).numbers()
            assert {key: measured[name][key] for key in alone} == pytest.approx(alone)


def test_what_live_was_trained_on_tells_novel_from_known():
    qrels = {"skin rash": {"d1": 0.9, "d2": 0.9}, "fever": {"d2": 0.9}}
    trained = Known(query_keys={"rashes of the skin"}, positive_ids={"d1"})
    assert kinds_of(qrels, dict.fromkeys(qrels, "hash"), trained) == [
        {"skin rash": "seen_queries", "fever": "novel_queries"},
        {"skin rash": "known_documents", "fever": "novel_documents"},
    ]


def test_recent_is_what_time_holds_out_whatever_its_hash():
    held_out_by = {"a": "time", "b": "hash", "c": "both"}
    (kind,) = kinds_of({query: {"d": 1.0} for query in held_out_by}, held_out_by, None)
    assert kind == {"a": "recent_queries", "b": "earlier_queries", "c": "recent_queries"}


def test_to_the_base_model_everything_is_novel_so_there_is_no_slice():
    assert kinds_of({"a": {"d": 1.0}}, {"a": "hash"}, None) == []
    assert slices_of({"a": 1.0}, {"a": 0.5}, {"a": 1.0}, [], 0.95) == {}


def test_queries_none_of_which_is_asked_part_into_nothing():
    kinds = kinds_of({}, {"a": "hash"}, Known(query_keys=(), positive_ids=()))
    assert slices_of({}, {}, {}, kinds, 0.95) == {}
