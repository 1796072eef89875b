"""Simulated searchers click as their definition says, the same again by seed, and keep the truth to themselves."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.queries import query_key
from relevanced.daemon.records import Document, Hit, SearchAnswer
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.searchers import (
    Searchers,
    SearchersPolicy,
    Session,
)
from relevanced.daemon.rehearsal.spammers import nearest

START = datetime(2026, 1, 5, tzinfo=UTC)


def dataset(queries: int = 50) -> Dataset:
    """Query t<n> means document d<n>."""
    return Dataset(
        name="numbers",
        documents=[Document(f"d{number}", f"title {number}", "") for number in range(queries)],
        train_queries={f"t{number}": f"Find number {number}" for number in range(queries)},
        test_queries={"held": "never typed"},
        train_qrels={f"t{number}": {f"d{number}": 1, "judged": 0} for number in range(queries)},
        test_qrels={"held": {"d0": 1}},
    )


def searchers(seed: int = 1, data: Dataset | None = None, **policy) -> Searchers:
    return Searchers(data or dataset(), SearchersPolicy(**policy), seed=seed, start=START)


def answer(*document_ids: str) -> SearchAnswer:
    hits = [Hit(place, name, 1 - place / 100, "", "", 1) for place, name in enumerate(document_ids, start=1)]
    return SearchAnswer("the-query-id", 7, hits)


def test_the_same_seed_gives_the_same_sessions_and_clicks_in_whatever_order_they_are_asked():
    page = answer("d1", "d2", "d3", "d4")
    first, second = searchers(), searchers()
    later = list(second.sessions(1))
    sessions = list(first.sessions(0))
    assert sessions == list(second.sessions(0))
    assert later == list(first.sessions(1)) != sessions
    clicks = {session.session_id: first.click(session, page) for session in sessions}
    assert clicks == {session.session_id: second.click(session, page) for session in reversed(sessions)}
    assert sessions != list(searchers(seed=2).sessions(0))


def test_sessions_move_through_the_days_of_their_cycle():
    sessions = list(searchers(days_per_cycle=2).sessions(3))
    assert all(before.timestamp <= after.timestamp for before, after in pairwise(sessions))
    assert sessions[0].timestamp >= START + timedelta(days=6)
    assert sessions[-1].timestamp <= START + timedelta(days=8)
    assert len({session.session_id for session in sessions}) == len(sessions)


@given(st.integers(0, 100))
def test_only_train_queries_are_typed_and_their_key_survives_the_typing(seed):
    data = dataset(10)
    for session in searchers(seed, data, typing_variation=1.0).sessions(0):
        assert query_key(session.user_query) == query_key(data.train_queries[session.dataset_query_id])


def test_a_share_of_the_sessions_types_otherwise():
    data = dataset()
    sessions = [session for cycle in range(10) for session in searchers().sessions(cycle)]
    otherwise = [one for one in sessions if one.user_query != data.train_queries[one.dataset_query_id]]
    assert 0.15 < len(otherwise) / len(sessions) < 0.25
    assert len({one.user_query for one in otherwise if one.dataset_query_id == otherwise[0].dataset_query_id}) > 2


def traffic(**policy: float) -> Counter[str]:
    """Sessions of each query in 40 cycles of four a query."""
    people = searchers(mean_sessions=4, **policy)
    return Counter(session.dataset_query_id for cycle in range(40) for session in people.sessions(cycle))


def test_traffic_is_zipf_with_the_given_mean():
    counts = traffic()
    (_, first), (_, second), *_ = counts.most_common()
    assert counts.total() == pytest.approx(4 * 50 * 40, rel=0.05)
    assert first / second == pytest.approx(2, rel=0.2)


def test_every_query_is_typed_at_some_time_however_steep_the_traffic():
    assert len(traffic(zipf_exponent=4)) == 50


def test_clients_return_within_a_cycle_and_in_later_ones():
    first, second = ([session.client_id for session in searchers().sessions(cycle)] for cycle in (0, 1))
    assert 2 < len(first) / len(set(first)) < 5
    assert set(first) & set(second)


def test_a_click_is_a_ubi_event_that_tells_nothing_of_relevance():
    people = searchers(bias="none", noise=0, abandonment=0)
    session = Session("t1", "Find number 1", "searcher-5", "session-0-9", START)
    (event,) = people.click(session, answer("d3", "d1"))
    dwell = event["event_attributes"]["dwell_seconds"]
    assert event == {
        "action_name": "click",
        "query_id": "the-query-id",
        "client_id": "searcher-5",
        "session_id": "session-0-9",
        "timestamp": event["timestamp"],
        "event_attributes": {
            "object": {"object_id": "d1"},
            "position": {"ordinal": 2},
            "dwell_seconds": dwell,
        },
    }
    assert dwell > 0
    assert START < datetime.fromisoformat(event["timestamp"]) < START + timedelta(seconds=30)
    assert json.loads(json.dumps(event)) == event


def test_spammers_come_beside_the_honest_and_change_nothing_about_them():
    plain, spammed = searchers(), searchers(spam=0.2)
    sessions = list(spammed.sessions(1))
    assert [session for session in sessions if session.pushed is None] == list(plain.sessions(1))
    assert [session.timestamp for session in sessions] == sorted(session.timestamp for session in sessions)
    share = sum(session.pushed is not None for session in sessions) / len(sessions)
    assert share == pytest.approx(0.2, abs=0.05)


def test_a_spammer_clicks_the_document_it_pushes_wherever_it_is_and_nothing_else():
    people = searchers(spam=0.3)
    spam = [session for cycle in (0, 1) for session in people.sessions(cycle) if session.pushed is not None]
    by_client = {session.client_id: session.pushed for session in spam}
    for session in spam:
        assert by_client[session.client_id] == session.pushed, "for ever the same"
        assert session.pushed not in (f"d{session.dataset_query_id[1:]}",), "it answers nothing"
        (click,) = people.click(session, answer("d1000", "d2000", session.pushed, "d3000"))
        assert click["event_attributes"]["object"] == {"object_id": session.pushed}
        assert people.click(session, answer("d1000")) == []


def test_a_document_is_pushed_for_the_queries_that_share_its_words_and_that_it_does_not_answer():
    queries = {"a": "stiff neck", "b": "stiff cold neck", "c": "sore throat", "d": "neck"}
    qrels = {"a": {"d1": 1}, "b": {"d2": 1}, "c": {"d3": 1}, "d": {"d4": 1}}
    assert nearest("A stiff neck in the morning", "d1", queries, qrels) == ["d", "b", "c"]
