"""What drifts comes evenly after the first cycle, and until then nobody types it or is measured on it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.beir import relevant_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.drift import views
from tests.unit.test_searchers import START, Searchers, SearchersPolicy, dataset


def with_tests(count: int = 60) -> Dataset:
    """Each document answers a train query, and each pair of neighbours a test query."""
    tests = {f"e{number}": {f"d{number}": 1, f"d{(number + 1) % count}": 1} for number in range(count)}
    return replace(dataset(count), test_queries={name: f"test {name}" for name in tests}, test_qrels=tests)


@given(st.floats(0.05, 0.6), st.integers(2, 6), st.integers(0, 20))
def test_what_is_there_only_grows_and_is_everything_at_last(share, cycles, seed):
    data = with_tests()
    found = views(data, share, cycles, seed)
    assert len(found) == cycles
    assert found[-1] is data
    assert found == views(data, share, cycles, seed)
    for before, after in pairwise(found):
        assert {one.document_id for one in before.documents} <= {one.document_id for one in after.documents}
        assert before.train_queries.items() <= after.train_queries.items()
        assert before.test_queries.items() <= after.test_queries.items()


@pytest.mark.parametrize("cycles", [2, 3, 4])
def test_the_share_comes_later_evenly_over_the_cycles_after_the_first(cycles):
    found = views(with_tests(), 0.5, cycles, 1)
    expected = [30 + 30 * cycle // (cycles - 1) for cycle in range(cycles)]
    assert [len(view.documents) for view in found] == expected
    assert [len(view.train_queries) for view in found] == expected


def test_a_cycle_is_measured_on_the_test_queries_whose_relevant_documents_are_all_there():
    data = with_tests()
    for view in views(data, 0.4, 3, 1)[:-1]:
        known = {one.document_id for one in view.documents}
        whole = {name for name, row in data.test_qrels.items() if relevant_documents(row) <= known}
        assert set(view.test_queries) == set(view.test_qrels) == whole
        assert all(set(row) <= known for row in (*view.train_qrels.values(), *view.test_qrels.values()))
        assert set(view.train_qrels) == set(view.train_queries)


def test_people_also_type_what_is_not_there_yet():
    first = views(with_tests(), 0.5, 2, 1)[0]
    in_vain = [name for name in first.train_queries if not relevant_documents(first.train_qrels[name])]
    assert 0 < len(in_vain) < len(first.train_queries)


def test_nobody_types_a_query_before_its_time():
    data = with_tests()
    found = views(data, 0.5, 3, 1)
    policy = SearchersPolicy(spam=0.3, flood=True, mean_sessions=20)
    people = Searchers(data, policy, seed=1, start=START, views=found)
    for cycle, view in enumerate(found):
        typed = {one.dataset_query_id for one in people.sessions(cycle)}
        assert typed <= set(view.train_queries)
        assert len(typed) > 0.9 * len(view.train_queries)


def test_nobody_tries_again_in_words_before_their_time():
    texts = {"a": "car", "b": "motor vehicle", "late": "limousine"}
    qrels = {name: {"d0": 1} for name in texts}
    data = replace(dataset(2), train_queries=texts, train_qrels=qrels)
    now = replace(data, train_queries={name: texts[name] for name in ("a", "b")})
    people = Searchers(data, SearchersPolicy(reformulation=1.0), seed=1, start=START, views=[now, data])
    firsts = [one for one in people.sessions(1) if one.dataset_query_id == "a"]
    assert {people.again(one, 0).dataset_query_id for one in firsts} == {"b"}
    assert {people.again(one, 1).dataset_query_id for one in firsts} == {"b", "late"}


def test_without_drift_everything_is_always_there():
    data = with_tests()
    assert all(view is data for view in views(data, 0.0, 3, 1))
    plain = Searchers(data, SearchersPolicy(), seed=1, start=START)
    viewed = Searchers(data, SearchersPolicy(), seed=1, start=START, views=[data] * 3)
    assert list(plain.sessions(2)) == list(viewed.sessions(2))


def test_drift_that_leaves_nothing_to_do_is_refused():
    with pytest.raises(BadInput, match="give --cycles 2 or more beside --drift"):
        views(with_tests(), 0.2, 1, 1)
    with pytest.raises(BadInput, match=r"With --drift 0\.9 no query is left for the first cycle; lower it"):
        views(with_tests(10), 0.9, 3, 1)
