"""Validation: each check by a log that breaks it, and the account against one that is counted from the raw records."""

import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relevanced.consumers.files import FilesSource
from relevanced.consumers.replaying import read_some
from relevanced.daemon.bots import BotPolicy
from relevanced.daemon.errors import BadInput
from relevanced.daemon.passing_log import passing_log
from relevanced.daemon.ports import silent
from relevanced.daemon.privacy import DEFAULTS
from relevanced.daemon.validation import NOTHING_KNOWN, Check, Known, Report, ValidationPolicy, validate

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SAMPLE = Path(__file__).with_name("ubi_sample.ndjson.gz")
LARGE = os.environ.get("RELEVANCED_UBI_SAMPLE")  # a larger file in the bulk format, where there is one


def query(number, *, hits=("d1", "d2"), **fields):
    when = f"2026-01-01T10:{number % 60:02}:00Z"
    words = {"user_query": "fever", "client_id": f"c{number}", "application": "shop", "timestamp": when}
    return {"query_id": f"q{number}", "query_response_hit_ids": list(hits), **words, **fields}


def event(number, action="click", document="d1", position=1, **fields):
    attributes = {"object": {"object_id": document}, "position": {"ordinal": position}}
    when = f"2026-01-01T10:{number % 60:02}:30Z"
    ids = {"query_id": f"q{number}", "client_id": f"c{number}", "application": "shop"}
    return {"action_name": action, "timestamp": when, "event_attributes": attributes, **ids, **fields}


def sound():
    return [record for number in range(30) for record in (query(number), event(number))]


def report_of(path: Path, known=NOTHING_KNOWN) -> Report:
    source = FilesSource(path)
    with passing_log(DEFAULTS) as log:
        while read_some(source, log):
            pass
        return validate(log, known, ValidationPolicy(), BotPolicy(), k=3, now=NOW, progress=silent)


@pytest.fixture
def check(tmp_path):
    def checked(name, records, known=NOTHING_KNOWN) -> Check:
        file = tmp_path / "records.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return {found.name: found for found in report_of(file, known).checks}[name]

    return checked


def test_a_sound_log_passes_everything(tmp_path):
    (tmp_path / "records.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, sound())).encode()))
    assert {found.grade for found in report_of(tmp_path).checks} == {"PASS"}


BROKEN = {
    "clicks_without_queries": [event(number) for number in range(100, 140)],
    "searches_without_clicks": [query(100 + number) for number in range(3100)],
    "nothing_shown": [query(number, hits=()) for number in range(100, 3200)],
    "clicks_not_shown": [event(number, document="elsewhere") for number in [*range(30)] * 2],
    "impressions_fewer_than_hits": [
        record
        for number in range(100, 130)
        for record in (query(number, hits=[f"d{place}" for place in range(10)]), event(number, "impression"))
    ],
    "positions_missing": [event(number, "impression", position=None) for number in range(30)],
    "positions_constant": [event(number, "impression", document) for number in range(30) for document in "ab"],
    "dead_letters": [{"no": "record"} for _ in range(10)],
    "times_in_the_future": [event(number, timestamp="2031-01-01T00:00:00Z") for number in range(30)],
}
ODD = {
    "positions_from_0": [event(number, "impression", position=0) for number in range(30)],
    "one_client": [event(number, client_id="c1") for number in range(30)],
    "nobody_named": [query(number, client_id="") for number in range(100, 130)],
    "duplicates": sound(),
    "times_missing": [query(100, timestamp=None)],
    "clicks_before_queries": [event(number, timestamp="2025-12-01T00:00:00Z") for number in range(30)],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_log_that_cannot_teach_fails(check, name):
    found = check(name, sound() + BROKEN[name])
    assert (found.grade, found.found > 0, found.found <= found.total) == ("FAIL", True, True)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_log_warns_and_says_where(check, name):
    found = check(name, sound() + ODD[name])
    assert (found.grade, found.found > 0, len(found.examples) > 0) == ("WARN", True, True)


def test_few_records_fail_nothing(check):
    assert check("clicks_without_queries", [event(1)]).grade == "WARN"


def test_a_text_is_an_example_only_when_enough_people_typed_it(check):
    records = [query(number, user_query="common") for number in range(30)]
    records += [query(100 + number, user_query="rare", client_id=f"c{number % 2}") for number in range(60)]
    assert check("searches_without_clicks", records).examples == ["common"]


def test_versions_and_documents_are_compared_with_what_is_there(check):
    known = Known(["1"], lambda names, _progress: [name for name in names if name == "d2"])
    records = [query(number, query_attributes={"version": 1 + number % 2}) for number in range(30)]
    versions, documents = (check(name, records, known) for name in ("versions_unknown", "documents_unknown"))
    assert (versions.found, versions.total, versions.examples) == (15, 30, ["2"])
    assert (documents.found, documents.total, documents.examples) == (1, 2, ["d2"])


def test_a_place_with_nothing_to_read_is_named(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadInput, match=str(place)):
            FilesSource(place)


ODDITIES = [  # as real records have them: three requests a page, half-typed searches, records that never came
    query(1),
    query(1, hits=()),
    query(1, hits=(), user_query="fev"),
    event(1, "impression"),
    event(1),
    event(2, "search", None),
    event(3, "impression"),
    event(3),
    event(3, "search", None),
    event(4, timestamp="2020-01-01T00:00:00Z"),
    event(5, timestamp="2030-01-01T00:00:00Z"),
    event(6, "page_exit", None, application="demo", timestamp=1717527762010),
    query(7, timestamp="yesterday"),
    event(7),
    query(8, timestamp="2026-01-01T10:59:00Z"),
    event(9, query_id=None),
]


def expected(records):
    """Counted one by one: the account, and the orphans by the first reason that holds."""
    good = [record for record in records if not refused(record)]
    queries = [record for record in good if not record.get("action_name")]
    events = [record for record in good if record.get("action_name")]
    asked, told = {record["query_id"] for record in queries}, {record["query_id"] for record in events}
    account = Counter((record["application"], "(query)", record["query_id"] in told) for record in queries)
    account += Counter((record["application"], record["action_name"], record["query_id"] in asked) for record in events)
    lost = {record.get("query_id") for record in records if refused(record) and not record.get("action_name")}
    shown = {record["query_id"] for record in events if names_document(record)}
    orphans: Counter[tuple[str, str]] = Counter()
    for record in events:
        if record["query_id"] not in asked:
            times = sorted(time_of(one) for one in queries if one["application"] == record["application"])
            if record["query_id"] in lost:
                reason = "query_refused"
            elif not times:
                reason = "application_sends_no_queries"
            elif record["query_id"] not in shown:
                reason = "nothing_shown"
            elif time_of(record) < times[0]:
                reason = "before_first_query"
            else:
                reason = "after_last_query" if time_of(record) > times[-1] else "query_lost"
            orphans[record["application"], reason] += 1
    return account, orphans, len(records) - len(good)


def refused(record):
    return record.get("query_id") is None or record["timestamp"] == "yesterday"


def names_document(record):
    return bool(((record["event_attributes"] or {}).get("object") or {}).get("object_id"))


def time_of(record):
    value = record["timestamp"]
    return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int) else datetime.fromisoformat(value)


@pytest.mark.parametrize("path", [None, SAMPLE, *([Path(LARGE)] if LARGE else [])], ids=str)
def test_the_account_is_what_the_raw_records_say(tmp_path, path):
    if path is None:
        path = tmp_path / "bulk.ndjson"
        path.write_text("".join(f'{{"index": {{}}}}\n{json.dumps(record)}\n' for record in ODDITIES))
    lines = (gzip.open if path.suffix == ".gz" else open)(path, "rt").read().splitlines()
    records = [record for record in map(json.loads, lines) if not record.keys() <= {"index", "create"}]
    account, orphans, dead_letters = expected(records)
    report = report_of(path)
    found = Counter()
    for line in report.account:
        found[line["application"], line["action"], True] += line["joined"]
        found[line["application"], line["action"], False] += line["alone"]
    assert +found == account
    assert {(line["application"], line["reason"]): line["events"] for line in report.orphans} == orphans
    assert report.checks[0].found == dead_letters
