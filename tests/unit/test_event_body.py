"""Bodies of POST /v1/events: all of them or none, and a reason for each that is bad."""

import json

import pytest
from starlette.exceptions import HTTPException

from relevanced.consumers.decode import decode
from relevanced.daemon.web.event_body import read_records
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
        (b'{"index": {}}\n' + as_json(QUERY), "application/x-ndjson", [QUERY]),
    ],
)
def test_one_record_an_array_and_one_a_line_are_taken_whole(body, content_type, records):
    assert read_records(body, content_type, decode) == records


def test_each_bad_record_is_named_with_its_number_and_reason():
    with pytest.raises(BadRecords, match="2 of 3 records cannot be used, so none was taken") as refused:
        read_records(as_json([BROKEN, CLICK, 7]), "application/json", decode)

    assert [reason["record"] for reason in refused.value.reasons] == [1, 3]
    assert "timestamp" in refused.value.reasons[0]["reason"]


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
    with pytest.raises(BadRecords, match=r"\.$"):
        read_records(body, content_type, decode)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_content_type_that_a_foreign_page_could_send_is_refused(content_type):
    with pytest.raises(HTTPException) as refused:
        read_records(as_json(CLICK), content_type, decode)
    assert refused.value.status_code == 415
