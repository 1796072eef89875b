"""Decode, by the records that producers of UBI really send, and by what no reader can use."""

import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.consumers import decode as decode_module
from relevanced.consumers import moments as moments_module
from relevanced.consumers.clicks import click_rows
from relevanced.consumers.decode import MAX_RECORD, decode, decode_batch, read_regular
from relevanced.consumers.events import Instant, UbiEvent, UbiQuery
from relevanced.consumers.feedback import feedback_rows
from relevanced.consumers.impressions import impression_rows, query_rows
from relevanced.consumers.moments import are_moments, moments
from relevanced.daemon.errors import DeadLetter
from relevanced.daemon.records import RawRecord
from tests.bench.fuzz_decode import fuzz, fuzzed, sound

# Real and generated records of every application and action of github.com/o19s/chorus-opensearch-edition, sample-data
# (Apache-2.0), unchanged, each after its action line of the bulk format.
SAMPLE = Path(__file__).with_name("ubi_sample.ndjson.gz")


def query(**fields: Any) -> dict[str, Any]:
    return {"query_id": "q1", "user_query": "red shoes", **fields}


def event(action_name: str = "click", object_id: Any = "d1", ordinal: Any = 1, **fields: Any) -> dict[str, Any]:
    attributes = {"object": {"object_id": object_id}, "position": {"ordinal": ordinal}}
    moment = "2024-12-10T00:01:29.378Z"
    return {"action_name": action_name, "query_id": "q1", "timestamp": moment, "event_attributes": attributes, **fields}


def read(record: dict[str, Any]) -> UbiQuery | UbiEvent | None:
    return decode(json.dumps(record).encode())


def read_query(**fields: Any) -> dict[str, Any]:
    found = read(query(**fields))
    assert isinstance(found, UbiQuery)
    row: dict[str, Any] = query_rows([found]).to_pylist()[0]
    return row


def read_event(**fields: Any) -> UbiEvent:
    found = read(event(**fields))
    assert isinstance(found, UbiEvent)
    return found


def test_a_record_is_a_query_when_it_has_no_action_name() -> None:
    assert isinstance(read(query()), UbiQuery)
    assert isinstance(read(query(action_name=None)), UbiQuery)
    assert isinstance(read(event(action_name="search", user_query="red shoes")), UbiEvent)


@pytest.mark.parametrize("action", [{"index": {"_index": "ubi_queries", "_id": "1"}}, {"create": {}}])
def test_an_action_line_of_the_bulk_format_is_no_record(action: dict[str, Any]) -> None:
    assert read(action) is None


def test_a_record_with_a_field_of_the_bulk_formats_name_is_a_record() -> None:
    assert isinstance(read(query(index="products")), UbiQuery)
    assert isinstance(read(event(index="products")), UbiEvent)
    with pytest.raises(DeadLetter, match="object missing required field `user_query`"):
        read({"query_id": "q1", "index": {}})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-12-10T00:01:29.378Z", datetime(2024, 12, 10, 0, 1, 29, 378000, tzinfo=UTC)),
        ("2025-01-24T07:31:30.699+0000", datetime(2025, 1, 24, 7, 31, 30, 699000, tzinfo=UTC)),
        ("2025-01-24T07:31:30+02:00", datetime(2025, 1, 24, 5, 31, 30, tzinfo=UTC)),
        (1717527762010, datetime(2024, 6, 4, 19, 2, 42, 10000, tzinfo=UTC)),
    ],
)
def test_a_timestamp_has_three_forms(written: str | int, meant: datetime) -> None:
    assert read_event(timestamp=written).timestamp == meant
    assert read_query(timestamp=written)["timestamp"] == meant


@pytest.mark.parametrize(
    "timestamp",
    ["2025-01-24T07:31:30", "yesterday", "", 10**20, -(10**20), True, 1.5, None, "0001-01-01T00:00:00+14:00"],
)
def test_an_event_whose_time_is_not_known_is_a_dead_letter(timestamp: Any) -> None:
    with pytest.raises(DeadLetter, match=r"timestamp"):
        read(event(timestamp=timestamp))


def test_a_query_may_come_without_a_time_and_without_hits() -> None:
    row = read_query()
    assert (row["timestamp"], row["hit_ids"], row["page_offset"]) == (None, None, 0)
    assert read_query(query_response_hit_ids=[])["hit_ids"] == []


def test_hits_keep_their_order_and_become_strings() -> None:
    assert read_query(query_response_hit_ids=["b", 7, "a"])["hit_ids"] == ["b", "7", "a"]


def test_what_debiasing_needs_is_read_from_the_query_attributes() -> None:
    attributes = {
        "version": 3,
        "policy": "adjacent-swaps",
        "propensities": [1, 0.5],
        "offset": 10,
        "ranked_by": [3, "3+4"],
        "device": "mobile",
    }
    row = read_query(query_attributes=attributes)
    assert (row["version"], row["policy"], row["page_offset"]) == ("3", "adjacent-swaps", 10)
    assert row["propensities"] == [1.0, 0.5]
    assert row["ranked_by"] == ["3", "3+4"]
    assert row["device"] == "mobile"


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        {},
        {"version": {"major": 1}, "policy": True, "propensities": "high", "offset": "10"},
        {"propensities": [0.5, 0.0], "offset": -1, "ranked_by": []},
        {"propensities": [0.5, None], "offset": 2**40, "ranked_by": ["1", None], "device": 7},
        {"device": ""},
        {"device": "x" * 101},
    ],
)
def test_attributes_that_mean_something_else_to_their_producer_are_left_out(attributes: Any) -> None:
    row = read_query(query_attributes=attributes)
    found = (row["version"], row["policy"], row["propensities"], row["ranked_by"], row["page_offset"], row["device"])
    assert found == (None, None, None, None, 0, None)


def test_empty_ids_are_no_ids() -> None:
    row = read_query(client_id="", session_id="", application="")
    assert (row["client_id"], row["session_id"], row["application"]) == (None, None, None)


def test_an_object_id_may_be_an_integer() -> None:
    assert read_event(object_id=42).document_id == "42"


def test_a_position_is_kept_as_its_producer_counts_it_from_0_too() -> None:
    assert [read_event(ordinal=ordinal).position for ordinal in (0, 1, 2, None)] == [0, 1, 2, None]


@pytest.mark.parametrize("attributes", [None, {}, {"object": None, "position": None}, {"position": {"x": 1, "y": 2}}])
def test_an_event_other_than_a_click_needs_no_document_and_no_position(attributes: Any) -> None:
    found = read_event(action_name="search", event_attributes=attributes)
    assert (found.document_id, found.position) == (None, None)


@pytest.mark.parametrize("action_name", ["click", "impression"])
@pytest.mark.parametrize("attributes", [None, {}, {"object": {}}, {"object": {"object_id": ""}}])
def test_a_click_that_names_no_document_is_a_dead_letter(action_name: str, attributes: Any) -> None:
    with pytest.raises(DeadLetter, match=f"The {action_name} names no document"):
        read(event(action_name=action_name, event_attributes=attributes))


def test_each_action_has_its_table() -> None:
    free = {"object": {"object_id": "d"}, "dwell_seconds": 12, "rating": 4}
    events = [read_event(action_name=name, event_attributes=free) for name in ("click", "impression", "upvote")]
    assert click_rows(events).to_pylist()[0]["dwell_seconds"] == 12.0
    assert impression_rows(events).num_rows == 1
    (feedback,) = feedback_rows(events).to_pylist()
    assert (feedback["action"], feedback["document_id"], feedback["value"]) == ("upvote", "d", 4.0)


@pytest.mark.parametrize("free", ["long", None, True, [1]])
def test_a_free_attribute_that_is_no_number_is_left_out(free: Any) -> None:
    attributes = {"object": {"object_id": "d"}, "dwell_seconds": free, "rating": free}
    click, vote = (read_event(action_name=name, event_attributes=attributes) for name in ("click", "upvote"))
    assert click_rows([click]).to_pylist()[0]["dwell_seconds"] is None
    assert feedback_rows([vote]).to_pylist()[0]["value"] is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"query_id": "q1", "user_qu', "The record is not JSON: input data was truncated."),
        (b"", "The record is not JSON: input data was truncated."),
        (b"query_id=q1", "The record is not JSON: invalid character (byte 0)."),
        (b'[{"query_id": "q1"}]', "The record is not as UBI says: expected `object`, got `array`."),
        (b'{"query_id": "q\xff", "user_query": "x"}', "The record is not UTF-8: invalid start byte."),
        (b'{"user_query": "x"}', "The query is not as UBI says: object missing required field `query_id`."),
        (b'{"query_id": "q1"}', "The query is not as UBI says: object missing required field `user_query`."),
        (
            b'{"query_id": "", "user_query": "x"}',
            "The query is not as UBI says: expected `str` of length >= 1 at `query_id`.",
        ),
        (
            b'{"query_id": 5, "user_query": "x"}',
            "The query is not as UBI says: expected `str`, got `int` at `query_id`.",
        ),
        (
            b'{"query_id": "q1", "user_query": "x", "query_response_hit_ids": [null]}',
            "The query is not as UBI says: expected `int | str`, got `null` at `query_response_hit_ids[0]`.",
        ),
        (
            b'{"action_name": "click", "timestamp": "2025-01-01T00:00:00Z"}',
            "The event is not as UBI says: object missing required field `query_id`.",
        ),
        (b'{"query_id": "q1", "user_query": ' + b"[" * 5000, "The record is nested too deeply to be read."),
        (
            b'{"query_id": "q1", "user_query": "a\\u0000b"}',
            "The record holds the character U+0000, which Postgres cannot store.",
        ),
        (b'{"user_query": "' + b"x" * MAX_RECORD + b'"}', "The record is longer than 1,000,000 bytes."),
    ],
)
def test_a_record_that_cannot_be_used_is_a_dead_letter_with_one_sentence(value: bytes, reason: str) -> None:
    with pytest.raises(DeadLetter) as caught:
        decode(value)
    assert str(caught.value) == reason


@pytest.mark.parametrize("field", ["query_id", "client_id", "session_id", "application"])
def test_ids_have_at_most_100_characters(field: str) -> None:
    read(query(**{field: "ä" * 100}))
    for record in (query, event):
        with pytest.raises(DeadLetter, match=f"length <= 100 at `{field}`"):
            read(record(**{field: "x" * 101}))


@pytest.mark.parametrize("ordinal", [-1, 2**31, 1.5, "1"])
def test_a_position_that_is_none_is_a_dead_letter(ordinal: Any) -> None:
    with pytest.raises(DeadLetter, match=r"at `event_attributes\.position\.ordinal`"):
        read(event(ordinal=ordinal))


def test_a_backslash_before_u0000_is_only_text() -> None:
    found = decode(rb'{"query_id": "q1", "user_query": "a\\u0000b"}')
    assert isinstance(found, UbiQuery)
    assert found.user_query == r"a\u0000b"


def test_a_batch_is_sorted_and_says_of_each_reject_where_it_was_and_why() -> None:
    values = [query(), {"index": {}}, event(), "broken", event(action_name="upvote")]
    records = [
        RawRecord("p", offset, value.encode() if isinstance(value, str) else json.dumps(value).encode())
        for offset, value in enumerate(values)
    ]
    decoded = decode_batch(records)
    assert (len(decoded.queries), len(decoded.events)) == (1, 2)
    ((reject, reason),) = decoded.rejects
    assert (reject.offset, reject.value) == (3, b"broken")
    assert reason.startswith("The record is not JSON")


def test_every_line_of_the_sample_becomes_a_row_or_a_dead_letter_with_its_reason() -> None:
    lines = gzip.decompress(SAMPLE.read_bytes()).splitlines()
    decoded = decode_batch([RawRecord("sample", offset, line) for offset, line in enumerate(lines)])
    rows = {
        "query": query_rows(decoded.queries).num_rows,
        "impression": impression_rows(decoded.events).num_rows,
        "click": click_rows(decoded.events).num_rows,
        "feedback": feedback_rows(decoded.events).num_rows,
        "action line": sum(line.startswith(b'{"index"') for line in lines),
    }
    assert sum(rows.values()) + len(decoded.rejects) == len(lines)
    assert rows == {"query": 6, "impression": 6, "click": 6, "feedback": 29, "action line": 49}
    assert Counter(reason for _, reason in decoded.rejects) == {
        "The event is not as UBI says: expected `str`, got `null` at `query_id`.": 2
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["action_name", "query_id", "user_query", "timestamp", "client_id", "query_response_hit_ids"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "query_attributes", "event_attributes", "index"]), JSON))
def test_any_json_becomes_rows_or_a_dead_letter(record: dict[str, Any]) -> None:
    decoded = decode_batch([RawRecord("p", 0, json.dumps(record).encode())])
    query_rows(decoded.queries), impression_rows(decoded.events), click_rows(decoded.events)
    feedback_rows(decoded.events)


@given(st.binary(max_size=50))
def test_any_bytes_become_a_record_or_a_dead_letter(value: bytes) -> None:
    decode_batch([RawRecord("p", 0, value)])


@pytest.mark.parametrize("value", [True, 10**400, -1, "3", None])
def test_an_offset_that_is_none_does_not_stop_the_loop(value: Any) -> None:
    record = {"query_id": "q", "user_query": "x", "query_attributes": {"offset": value, "propensities": [value]}}
    decoded = decode(json.dumps(record).encode())
    assert isinstance(decoded, UbiQuery)
    (row,) = query_rows([decoded]).to_pylist()
    assert (row["page_offset"], row["propensities"]) == (0, None)


@given(st.integers(0, 2**32))
def test_what_is_read_in_one_pass_is_what_the_authority_reads(seed: int) -> None:
    value = fuzzed(random.Random(seed))
    if (found := read_regular([value])) is None:
        return
    (regular,), full = found, decode(value)
    if isinstance(full, UbiQuery):
        assert query_rows([regular]).equals(query_rows([full]))
    else:
        assert isinstance(full, UbiEvent)
        for rows in (impression_rows, click_rows, feedback_rows):
            assert rows([regular]).equals(rows([full]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**32)), min_size=1, max_size=40), st.sampled_from([1, 3, 100]))
def test_what_stands_beside_a_record_changes_nothing_about_it(kinds: list[tuple[bool, int]], together: int) -> None:
    values = [
        json.dumps(sound(random.Random(seed))).encode() if is_sound else fuzzed(random.Random(seed))
        for is_sound, seed in kinds
    ]
    records = [RawRecord("p", number, value) for number, value in enumerate(values)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_module, "TOGETHER", together)
        all_at_once = decode_batch(records)
    alone = [decode_batch([record]) for record in records]
    assert query_rows(all_at_once.queries).equals(query_rows([query for one in alone for query in one.queries]))
    events = [event for one in alone for event in one.events]
    for rows in (impression_rows, click_rows, feedback_rows):
        assert rows(all_at_once.events).equals(rows(events))
    assert all_at_once.rejects == [reject for one in alone for reject in one.rejects]


def written(*parts: list[str]) -> st.SearchStrategy[str]:
    return st.tuples(*map(st.sampled_from, parts)).map("".join)


TEXTS = written(
    ["2025", "0001", "0002", "9998", "9999", "-1", "202"],
    ["-01", "-02", "-13", "01", "-W05", ""],
    ["-24", "-30", "24", "-3", ""],
    ["T", " ", "t", ""],
    ["07", "24", "00", "7", ""],
    [":31", "31", ":60", ""],
    [":30", ":59", ":60", "30", ""],
    [".6", ".699", ".123456", ".123456789", ",5", "", "."],
    ["Z", "z", "+00:00", "-0130", "+05", "+23:59", "+24:00", "-00:00:01", "", " Z"],
)
USUAL = written(
    ["2025-01-24", "2025-02-30", "9998-12-31", "0002-01-01"],
    ["T07:31:30", " 23:59:60", "T24:00:00", " 07:31"],
    ["", ".6", ".123456", ".123456789"],
    ["Z", "+00:00", "-0130", "+05", "+23:59", ""],
)


@pytest.mark.parametrize("few", [0, 1000], ids=["by Arrow", "by Python"])
@given(text=TEXTS | USUAL)
def test_a_moment_that_is_read_together_with_others_is_what_it_is_alone(few: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments_module, "FEW", few)
        if are_moments([text]):
            assert moments([text])[0].as_py() == Instant.read(text)


@pytest.mark.parametrize(
    "text", ["2025-01-24T07:31:30.699Z", "2025-01-24T07:31:30.699+0000", "2025-01-24T07:31:30.123456789Z"]
)
def test_what_the_usual_clocks_write_is_regular_and_needs_no_second_reading(text: str) -> None:
    assert read_regular([json.dumps(event(timestamp=text)).encode()] * 100) is not None


def test_of_many_fuzzed_records_each_becomes_a_row_or_a_dead_letter() -> None:
    counted = fuzz(10_000, seed=2)
    assert counted["rows"] > 1_000
    assert counted["dead_letters"] > 1_000
