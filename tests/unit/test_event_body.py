"""Bodies of POST /v1/events: each record judged for itself, with a reason for each that is bad."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from relevanced.consumers.decode import decode
from relevanced.daemon.web.event_body import MAX_RECORDS, Action, read_entries
from relevanced.daemon.web.problems import BadRecords

CLICK = {
    "action_name": "click",
    "query_id": "q1",
    "timestamp": "2026-01-31T09:12:45.120Z",
    "event_attributes": {"object": {"object_id": "d1"}, "position": {"ordinal": 1}},
}
QUERY = {"query_id": "q1", "user_query": "naïve", "timestamp": "2026-01-31T09:12:40Z", "query_attributes": {"mine": 1}}
BROKEN = {**CLICK, "timestamp": "yesterday"}


def as_json(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("body", "content_type", "records"),
    [
        (as_json(CLICK), "application/json", [CLICK]),
        (json.dumps(QUERY, indent=2).encode(), "application/json; charset=utf-8", [QUERY]),
        (b"  " + as_json([CLICK, QUERY]), "Application/JSON", [CLICK, QUERY]),
        (as_json(CLICK) + b"\r\n\n" + as_json(QUERY), "application/x-ndjson", [CLICK, QUERY]),
        (as_json(CLICK) + b"\n", "application/jsonl", [CLICK]),
    ],
)
def test_one_record_an_array_and_one_a_line_are_taken_whole(body, content_type, records):
    entries = read_entries(body, content_type, decode)
    assert [entry.record for entry in entries] == records
    assert not any(entry.action for entry in entries)


def test_each_bad_record_has_its_reason_and_the_others_are_taken():
    first, second, third = read_entries(as_json([BROKEN, CLICK, 7]), "application/json", decode)

    assert "timestamp" in first.reason
    assert second.record == CLICK
    assert third.record is None
    assert third.reason.endswith(".")


def test_an_action_line_among_plain_records_is_refused_rather_than_lost():
    """A body that begins as NDJSON is no bulk body, so its producer learns that a line was not taken."""
    body = as_json(CLICK) + b'\n{"index": {}}\n' + as_json(CLICK)
    assert [bool(entry.record) for entry in read_entries(body, "application/x-ndjson", decode)] == [True, False, True]


def test_a_bulk_body_keeps_the_order_and_the_names_of_its_actions():
    lines = [{"index": {"_index": "ubi_queries", "_id": 7}}, QUERY, {"update": {}}, CLICK, {"delete": {}}]
    lines += [{"create": {}}, BROKEN]
    for content_type in ("application/x-ndjson", "application/json"):  # OpenSearch's clients send either
        entries = read_entries(b"\n".join(map(as_json, lines)), content_type, decode)
        assert [entry.action.name for entry in entries] == ["index", "update", "delete", "create"]
        assert entries[0].action == Action("index", "ubi_queries", "7")
        assert [entry.record for entry in entries] == [QUERY, None, None, None]
        assert all(entry.reason for entry in entries[1:])


@pytest.mark.parametrize("lines", [[{"index": {}}], [{"index": {}}, CLICK, CLICK], [{"delete": {}}, {"index": {}}]])
def test_a_bulk_body_that_does_not_alternate_is_refused_whole(lines):
    with pytest.raises(BadRecords, match=r"^Line \d"):
        read_entries(b"\n".join(map(as_json, lines)), "application/x-ndjson", decode)


records = st.sampled_from([CLICK, QUERY, BROKEN, 7, None, "text", {}])
actions = st.sampled_from([{"index": {}}, {"create": {"_id": "1"}}, {"delete": {}}, {"update": {"_index": "i"}}])


@given(st.lists(st.one_of(records, actions), max_size=8), st.sampled_from(["application/x-ndjson", "application/json"]))
def test_whatever_comes_each_entry_is_taken_or_has_a_reason(lines, content_type):
    try:
        entries = read_entries(b"\n".join(map(as_json, lines)), content_type, decode)
    except BadRecords:
        return
    assert all((entry.record is None) != (entry.reason is None) for entry in entries)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b" \n\n", "application/x-ndjson"),
        (b"[{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{" + b'"a":{' * 100_000, "application/json"),
        (as_json(CLICK) + as_json(CLICK), "application/json"),
        (as_json(CLICK)[:-1] + b', "message": "\xff"}', "application/json"),
        (as_json(CLICK)[:-1] + b', "beside": "\xff"}', "application/json"),
        (as_json(CLICK)[:-1] + b', "beside": "\\ud800"}', "application/json"),
        (as_json(CLICK)[:-1] + b', "beside": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "application/json"),
    ],
)
def test_what_is_no_record_is_refused_in_words(body, content_type):
    try:
        reasons = [entry.reason for entry in read_entries(body, content_type, decode)]
    except BadRecords as refused:
        reasons = [str(refused)]
    assert reasons
    assert all(reason.endswith(".") for reason in reasons)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_content_type_that_a_foreign_page_could_send_is_refused(content_type):
    with pytest.raises(HTTPException) as refused:
        read_entries(as_json(CLICK), content_type, decode)
    assert refused.value.status_code == 415


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[" + b"{}," * MAX_RECORDS + b"{}]", "application/json"),
        (b"{}\n" * (MAX_RECORDS + 1), "application/x-ndjson"),
        (b'{"index":{}}\n{}\n' * (MAX_RECORDS + 1), "application/x-ndjson"),
    ],
)
def test_a_body_of_very_many_records_is_refused_whole(body, content_type):
    with pytest.raises(HTTPException, match="413: The body has more than 20,000 records; send it in parts"):
        read_entries(body, content_type, decode)
