import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.unjudged import unjudged_bounds

NAMES = [f"d{number}" for number in range(25)]
QUERIES = ["a", "b", "c", "d"]
runs = st.fixed_dictionaries(
    {
        query: st.lists(st.sampled_from(NAMES), unique=True, max_size=15).map(
            lambda names: {name: float(100 - rank) for rank, name in enumerate(names)}
        )
        for query in QUERIES
    }
)
grades = st.integers(1, 100).map(lambda grade: grade / 100)
qrels_of = st.fixed_dictionaries(
    {query: st.dictionaries(st.sampled_from(NAMES), grades, min_size=1, max_size=14) for query in QUERIES}
)
judged_of = st.fixed_dictionaries({query: st.sets(st.sampled_from(NAMES)) for query in QUERIES})
weights_of = st.fixed_dictionaries({query: st.floats(1, 3) for query in QUERIES})


def difference(qrels, candidate, live, weights) -> float:
    ones, others = ndcg_at_10(qrels, candidate), ndcg_at_10(qrels, live)
    return float(np.average([ones[query] - others[query] for query in QUERIES], weights=[weights[q] for q in QUERIES]))


@given(qrels_of, runs, runs, weights_of)
def test_where_all_is_judged_nothing_moves_and_the_figure_is_trec_evals(qrels, candidate, live, weights):
    found = unjudged_bounds(qrels, dict.fromkeys(QUERIES, NAMES), candidate, live, weights)
    expected = pytest.approx(difference(qrels, candidate, live, weights), abs=1e-6)
    assert (found.if_none, found.if_all, found.expected, found.low, found.high) == (expected,) * 5


@given(qrels_of, judged_of, runs, runs, weights_of)
def test_if_none_or_all_are_relevant_it_is_as_if_they_were_judged_so(qrels, judged, candidate, live, weights):
    found = unjudged_bounds(qrels, judged, candidate, live, weights)
    assert found.if_none == pytest.approx(difference(qrels, candidate, live, weights), abs=1e-6)
    told = {query: dict(grades) for query, grades in qrels.items()}
    for run in (candidate, live):
        for query, scores in run.items():
            for name in list(scores)[:10]:
                if name not in qrels[query] and name not in judged[query]:
                    told[query][name] = 1.0
    assert found.if_all == pytest.approx(difference(told, candidate, live, weights), abs=1e-6)


@given(qrels_of, judged_of, runs, runs, weights_of)
def test_who_is_called_what_changes_only_the_sign(qrels, judged, candidate, live, weights):
    there, back = (unjudged_bounds(qrels, judged, *arms, weights) for arms in ((candidate, live), (live, candidate)))
    assert (there.if_none, there.if_all) == pytest.approx((-back.if_none, -back.if_all))
    assert there.low <= there.high


@given(qrels_of, judged_of, runs, weights_of)
def test_a_version_does_not_differ_from_itself_whatever_is_unjudged(qrels, judged, run, weights):
    found = unjudged_bounds(qrels, judged, run, run, weights)
    assert (found.if_all, found.expected, found.low, found.high) == (0, 0, 0, 0)


def test_new_documents_are_given_the_chance_that_judged_ones_have_at_their_rank():
    """Live shows what is judged, half of it relevant; the candidate a new document first."""
    queries = [f"q{number}" for number in range(400)]
    qrels = {query: {"old": 1.0} if number % 2 else {"elsewhere": 1.0} for number, query in enumerate(queries)}
    judged = {query: ["old"] for query in queries}
    live, candidate = ({query: {name: 1.0} for query in queries} for name in ("old", "new"))
    found = unjudged_bounds(qrels, judged, candidate, live, dict.fromkeys(queries, 1.0))
    assert found.if_none == pytest.approx(-0.5)
    # A new relevant document has a place in the ideal ranking beside the one that was known.
    assert found.if_none < found.low < found.expected < found.high < found.if_all
    both = 1 + 1 / np.log2(3)
    assert found.expected == pytest.approx(-0.25 + 0.25 / both, abs=0.03)
