"""Which records tell of a person that is to be forgotten, and which only look as if they did."""

import json

import pytest

from relevanced.daemon.forgetting import Traces


def traces(raw_id: str, *texts: str) -> Traces:
    return Traces(raw_id, frozenset({"q7"}), frozenset(texts), frozenset())


@pytest.mark.parametrize(
    "record",
    [
        {"client_id": "42", "query_id": "q1"},
        {"client_id": 42, "query_id": "q1"},
        {"query_id": "q7"},
        {"query_id": "q1", "user_query": "click"},
        {"query_id": "q1", "people": [{"user_id": "42"}]},
    ],
)
def test_a_record_of_the_person_is_known(record: dict[str, object]) -> None:
    assert traces("42", "click").are_in(json.dumps(record).encode())


@pytest.mark.parametrize(
    "record",
    [
        {"action_name": "click", "query_id": "q1", "timestamp": "2026-01-01T09:42:10Z"},
        {"query_id": "q1", "user_query": "shoes 42"},
        {"query_id": "q1", "event_attributes": {"object": {"object_id": "42"}}},
        {"query_id": "q1", "query_response_hit_ids": ["42"]},
    ],
)
def test_a_record_of_somebody_else_stays(record: dict[str, object]) -> None:
    assert not traces("42", "click", "query_id").are_in(json.dumps(record).encode())


def test_a_record_that_cannot_be_read_is_searched_for_what_means_nobody_else() -> None:
    assert traces("client-Zacharias-1").are_in(b'{"client_id": "client-Zacharias-1", "user_q')
    assert traces("42").are_in(b'{"client_id": "42", "user_q')
    assert not traces("42", "e").are_in(b'{"client_id": "ann", "at": "09:42"')
