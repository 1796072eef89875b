"""Simulated searchers click as their definition says, the same again by seed, and keep the truth to themselves."""

import json
from collections import Counter
from dataclasses import replace
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
from relevanced.daemon.rehearsal.spammers import FLOOD_CLIENTS, FLOOD_SHARE, nearest

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


def needs() -> Dataset:
    """Three queries mean d0; the third is the first but for its case; and one alone means d1."""
    texts = {"a": "car", "b": "motor vehicle", "c": "Car!", "lone": "bicycle"}
    documents = {"a": "d0", "b": "d0", "c": "d0", "lone": "d1"}
    return replace(dataset(2), train_queries=texts, train_qrels={name: {one: 1} for name, one in documents.items()})


def first_searches(query_id: str, count: int = 2_000) -> list[Session]:
    return [Session(query_id, "words", f"client-{number}", f"session-{number}", START) for number in range(count)]


def test_who_tries_again_uses_other_words_for_the_same_need_soon_and_as_the_same_person():
    people = searchers(data=needs(), reformulation=1.0)
    for first in first_searches("a", 200):
        second = people.again(first, 0)
        assert second.dataset_query_id == "b", "c is the same query, and lone another need"
        assert query_key(second.user_query) == "motor vehicle"
        assert (second.client_id, second.session_id) == (first.client_id, first.session_id)
        assert timedelta(seconds=10) <= second.timestamp - first.timestamp <= timedelta(seconds=60)
        assert people.again(second, 0) is None, "once is enough"
        assert second == people.again(first, 0)


def test_the_share_tries_again_and_nobody_does_whose_need_has_no_other_words():
    people = searchers(data=needs(), reformulation=0.3)
    again = sum(people.again(first, 0) is not None for first in first_searches("a"))
    assert again / 2_000 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 2_000) ** 0.5)
    assert not any(people.again(first, 0) for first in first_searches("lone"))
    pushing = replace(first_searches("a", 1)[0], pushed="d1")
    assert searchers(data=needs(), reformulation=1.0).again(pushing, 0) is None


def test_the_second_look_is_not_the_first_again():
    """Whoever gave up at once would else give up at once for ever."""
    people = searchers(data=needs(), reformulation=1.0, bias="none", noise=0.5, abandonment=0.5)
    gave_up = [first for first in first_searches("a") if not people.click(first, answer("d0"))]
    clicked = sum(bool(people.click(people.again(first, 0), answer("d0"))) for first in gave_up)
    assert clicked / len(gave_up) == pytest.approx(0.25, abs=0.05)


def clicked_by_all(people: Searchers, cycle: int, page: SearchAnswer | None = None) -> tuple[list, list]:
    """The sessions of a cycle and what each clicks; a flooder's page shows the pushed document third."""
    sessions = list(people.sessions(cycle))
    pages = [page or answer(f"d{one.dataset_query_id[1:]}", "x", one.pushed or "y", "z") for one in sessions]
    return sessions, people.flood(sessions, list(map(people.click, sessions, pages)))


def test_one_client_in_a_hundred_floods_with_its_share_of_all_clicks():
    sessions, clicks = clicked_by_all(searchers(flood=True, mean_sessions=80, sessions_per_client=5), 0)
    flooders = {one.client_id for one in sessions if one.floods}
    # Of 800 clients, nearly all of whom come.
    assert len(flooders) / len({one.client_id for one in sessions}) == pytest.approx(FLOOD_CLIENTS, abs=0.002)
    theirs = sum(len(some) for one, some in zip(sessions, clicks, strict=True) if one.floods)
    assert theirs / sum(map(len, clicks)) == pytest.approx(FLOOD_SHARE, abs=0.001)


def test_a_flooder_clicks_what_it_pushes_many_times_with_uneven_pauses_and_nothing_else():
    people = searchers(flood=True, mean_sessions=40)
    sessions, clicks = clicked_by_all(people, 0)
    for one, some in zip(sessions, clicks, strict=True):
        if one.floods:
            assert {click["event_attributes"]["object"]["object_id"] for click in some} <= {one.pushed}
            assert len({click["timestamp"] for click in some}) == len(some)
            assert {click["client_id"] for click in some} <= {one.client_id}
    most = max(clicks, key=len)
    times = [datetime.fromisoformat(click["timestamp"]) for click in most]
    assert len(times) > 2
    pauses = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert min(pauses) > 0.1
    assert clicked_by_all(people, 0) == (sessions, clicks)
    nothing_pushed = clicked_by_all(people, 0, answer("elsewhere"))
    assert not any(some for one, some in zip(*nothing_pushed, strict=True) if one.floods), "not shown, not clicked"


def test_flooders_and_spammers_come_beside_the_honest_and_change_nothing_about_them():
    plain, pushed = searchers(), searchers(flood=True, spam=0.2)
    assert [one for one in pushed.sessions(1) if one.pushed is None] == list(plain.sessions(1))
    sessions, clicks = clicked_by_all(pushed, 1)
    honest = [some for one, some in zip(sessions, clicks, strict=True) if one.pushed is None]
    assert honest == clicked_by_all(plain, 1)[1]
    assert {one.client_id.partition("-")[0] for one in sessions} == {"searcher", "spammer", "flooder"}
