from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced import sql
from relevanced.daemon.log_store import run
from relevanced.daemon.signals import SignalPolicy

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = SignalPolicy()


class Table:
    """The log store's tables in a plain DuckDB; rows are written as a consumer would, repeats and all."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(sql.script("duckdb", "schema.sql"))
        self.connection.execute("CREATE TABLE bots (actor VARCHAR)")  # what bots.sql marks

    def query(
        self, query_id, hits, *, text="fever", client="c1", session=None, offset=0, version="1", day=0, seconds=0
    ):
        self.connection.execute(
            'INSERT INTO query (query_id, user_query, client_id, session_id, application, "timestamp", hit_ids,'
            " page_offset, version) VALUES (?, ?, ?, ?, 'shop', ?, ?, ?, ?)",
            [query_id, text, client, session, WHEN + timedelta(days=day, seconds=seconds), hits, offset, version],
        )

    def impression(self, query_id, document_id, position, application="shop", client=None):
        self.connection.execute(
            "INSERT INTO impression VALUES (?, ?, ?, ?, NULL, ?, ?, NULL)",
            [query_id, document_id, position, client, application, WHEN],
        )

    def click(self, query_id, document_id, position=None, client=None, dwell=None):
        self.connection.execute(
            "INSERT INTO click VALUES (?, ?, ?, ?, NULL, 'shop', ?, ?, NULL)",
            [query_id, document_id, position, client, WHEN, dwell],
        )

    def feedback(self, query_id, document_id, action):
        self.connection.execute(
            "INSERT INTO feedback (query_id, document_id, action) VALUES (?, ?, ?)", [query_id, document_id, action]
        )

    def evidence(self, keys=None, policy=POLICY):
        """(document, position, shown, clicks), pooled over surfaces and responses; `keys` has the query_key of each."""
        self.connection.execute("CREATE OR REPLACE TABLE query_keys (user_query VARCHAR, query_key VARCHAR)")
        for text, key in (keys or {"fever": "fever"}).items():
            self.connection.execute("INSERT INTO query_keys VALUES (?, ?)", [text, key])
        self.connection.register("signals", policy.table())
        self.connection.register(
            "applications_from_0", self.connection.execute(sql.duckdb["applications_from_0"]).to_arrow_table()
        )
        self.rows = run(self.connection, "evidence", policy.parameters()).to_arrow_table()
        kinds = ["string", "string", "int32", "bool", "string", "string", "double", "double"]
        assert [str(kind) for kind in self.rows.schema.types] == kinds
        counts: dict[tuple[str, str, int], tuple[float, float]] = {}
        for row in self.rows.to_pylist():
            place = row["query_key"], row["document_id"], row["position"]
            shown, clicks = counts.get(place, (0.0, 0.0))
            counts[place] = shown + row["shown"], clicks + row["clicks"]
        self.keys = [key for key, _, _ in sorted(counts)]
        return [(*place[1:], *counts[place]) for place in sorted(counts)]

    def typed(self, min_actors=1):
        """(text, actors) of each text."""
        rows = self.connection.execute(sql.duckdb["typed_queries"], {"min_actors": min_actors}).fetchall()
        return [row[:2] for row in rows]


@pytest.fixture
def log():
    return Table()


def test_documents_are_shown_at_their_place_in_the_list_and_clicked_where_they_were_shown(log):
    log.query("a", ["d1", "d2"])
    log.click("a", "d2", position=7)  # what the click says of its position does not count
    assert log.evidence() == [("d1", 1, 1, 0), ("d2", 2, 1, 1)]


def test_a_producers_retry_counts_once(log):
    for _ in range(3):
        log.query("a", ["d1"])
        log.click("a", "d1")
    assert log.evidence() == [("d1", 1, 1, 1)]


def test_of_several_records_of_a_query_the_one_with_most_hits_stands(log):
    log.query("a", [], text="fev")
    log.query("a", ["d1", "d2"])
    log.query("a", None)
    log.query("a", ["d9"], text="fe")
    assert log.evidence({"fever": "fever", "fe": "fe", "fev": "fev"}) == [("d1", 1, 1, 0), ("d2", 2, 1, 0)]


def test_impressions_replace_the_hit_list(log):
    log.query("a", ["d1", "d2", "d3"])
    log.impression("a", "d2", 1)
    log.impression("a", "d2", 1)
    log.impression("a", "d4", 2)
    log.click("a", "d1")  # listed, yet never rendered
    log.query("b", ["d1"], client="c2")
    assert log.evidence() == [("d1", 1, 1, 0), ("d2", 1, 1, 0), ("d4", 2, 1, 0)]


def test_impressions_without_a_position_leave_the_hit_list_in_place(log):
    log.query("a", ["d1"])
    log.impression("a", "d1", None)
    assert log.evidence() == [("d1", 1, 1, 0)]


def test_an_application_that_counts_from_0_is_understood(log):
    log.query("a", [])
    log.query("b", [], client="c2")
    log.impression("a", "d1", 0, application="from 0")
    log.impression("a", "d2", 1, application="from 0")
    log.impression("b", "d1", 1)
    log.impression("b", "d2", 2)
    assert log.evidence() == [("d1", 1, 2, 0), ("d2", 2, 2, 0)]


def test_a_further_page_goes_on_from_its_offset(log):
    log.query("a", ["d1", "d2"])
    log.query("a", ["d3"], offset=2)  # the same search, scrolled on
    log.query("b", ["d3"], offset=10, client="c2")
    assert log.evidence() == [("d1", 1, 1, 0), ("d2", 2, 1, 0), ("d3", 3, 1, 0), ("d3", 11, 1, 0)]


def test_a_click_on_what_was_never_shown_or_for_an_unknown_query_is_left_out(log):
    log.query("a", ["d1"])
    log.click("a", "d9")
    log.click("lost", "d1")
    assert log.evidence() == [("d1", 1, 1, 0)]


def test_an_actor_counts_once_and_has_clicked_if_it_ever_did(log):
    for query_id in ("a", "b", "c"):
        log.query(query_id, ["d1"], client="c1")
    log.click("b", "d1")
    assert log.evidence() == [("d1", 1, 1, 1)]


def test_passing_over_a_document_before_choosing_it_at_the_same_place_is_one_look(log):
    log.query("a", ["d1"], day=0)
    log.query("b", ["d1"], day=1)
    log.click("b", "d1")
    assert log.evidence() == [("d1", 1, 1, 1)]


def test_whoever_has_clicked_says_nothing_new_by_coming_back(log):
    log.query("a", ["d2", "d1"], day=0)
    log.query("b", ["d1", "d2"], day=1)
    log.click("b", "d1")
    log.query("c", ["d3", "d2", "d1"], day=2, version="2")
    log.click("c", "d1")
    log.query("d", ["d1"], client="c2", day=3)
    assert [row for row in log.evidence() if row[0] == "d1"] == [("d1", 1, 2, 1), ("d1", 2, 1, 0)]


def test_an_actor_that_clicks_a_document_under_many_queries_is_heard_once(log):
    texts = {f"text {number}": f"text {number}" for number in range(10)}
    for text in texts:
        log.query(text, ["d2", "d1"], text=text, client="pusher")
        log.click(text, "d1")
        log.query(f"{text} again", ["d2", "d1"], text=text, client=f"c {text}")
        log.click(f"{text} again", "d2")
    rows = log.evidence(texts)
    pushed = [(shown, clicks) for name, _, shown, clicks in rows if name == "d1"]
    assert pushed == [pytest.approx((1.1, 0.1))] * 10
    assert [clicks for name, _, _, clicks in rows if name == "d2"] == [1.0] * 10


def test_each_search_is_anothers_where_the_defence_is_off(log):
    for query_id in ("a", "b"):
        log.query(query_id, ["d2", "d1"], client="pusher")
        log.click(query_id, "d1")
    assert log.evidence(policy=SignalPolicy(one_voice=False)) == [("d1", 2, 2, 2), ("d2", 1, 2, 0)]
    assert log.evidence() == [("d1", 2, 1, 1), ("d2", 1, 1, 0)]


SEARCHES = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2", "c3"]),
        st.sampled_from(["fever", "cough", "rash"]),
        st.lists(st.sampled_from(["d1", "d2", "d3"]), unique=True, min_size=1),
        st.sets(st.sampled_from(["d1", "d2", "d3"])),
        st.integers(0, 5),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(SEARCHES)
def test_whatever_they_do_no_actor_says_more_of_a_document_than_one_click(searches):
    log = Table()
    for number, (client, text, hits, clicked, day) in enumerate(searches):
        log.query(f"q{number}", hits, text=text, client=client, day=day)
        for document_id in clicked:
            log.click(f"q{number}", document_id)
    rows = log.evidence({"fever": "fever", "cough": "cough", "rash": "rash"})

    for document_id in ("d1", "d2", "d3"):
        clickers = {
            client for client, _, hits, clicked, _ in searches if document_id in hits and document_id in clicked
        }
        assert sum(row[3] for row in rows if row[0] == document_id) == pytest.approx(len(clickers))
    assert all(0 <= clicks <= shown + 1e-9 for _, _, shown, clicks in rows)
    clicked_pairs = {(text, name) for _, text, hits, clicked, _ in searches for name in clicked & set(hits)}
    found = {(key, row[0]) for key, row in zip(log.keys, rows, strict=True) if row[3]}
    assert found == clicked_pairs


@pytest.mark.parametrize("missing", [None, ""])
def test_who_has_no_client_id_is_a_session_and_else_a_search(log, missing):
    log.query("a", ["d1"], client=missing, session="s1")
    log.query("b", ["d1"], client=missing, session="s1")
    log.query("c", ["d1"], client=missing, session=missing)
    log.query("d", ["d1"], client=missing, session=missing)
    assert log.evidence() == [("d1", 1, 3, 0)]
    assert log.typed() == [("fever", 3)]


def test_spellings_of_a_query_and_versions_are_pooled(log):
    log.query("a", ["d1"], text="Fever")
    log.query("b", ["d1"], text="fever", client="c2")
    log.query("c", ["d1"], text="fever", client="c2", version="2")
    log.query("d", ["d1"], text="cough", client="c2", version=None)
    assert log.evidence({"Fever": "fever", "fever": "fever", "cough": "cough"}) == [
        ("d1", 1, 1, 0),
        ("d1", 1, 2, 0),
    ]
    assert log.keys == ["cough", "fever"]


def test_what_marked_bots_did_is_passed_over_wherever_they_did_it(log):
    log.query("a", ["d1", "d2"])
    log.query("a", ["d9", "d8", "d7"], client="bot")  # under the id of another's search
    log.click("a", "d1", client="bot")
    log.impression("a", "d2", 0, client="bot")
    log.query("b", ["d1"], client="bot")
    log.click("b", "d1")
    log.query("c", ["d1"], text="bots only", client=None, session="bot")
    log.connection.execute("INSERT INTO bots VALUES ('bot')")
    assert log.evidence({"fever": "fever", "bots only": "bots only"}) == [("d1", 1, 1, 0), ("d2", 2, 1, 0)]


def test_a_page_is_of_the_client_that_any_of_its_requests_names(log):
    log.query("a", ["d1"], client=None)
    log.query("a", [], client="c1")
    log.query("b", ["d1"], client="c1")
    assert log.evidence() == [("d1", 1, 1, 0)]


def test_nobody_scrolls_beyond_50(log):
    log.query("a", [f"d{place:03}" for place in range(1, 61)])
    assert [row[1] for row in log.evidence()] == list(range(1, 51))


def test_a_document_listed_twice_counts_where_it_is_seen_first(log):
    log.query("a", ["d1", "d2", "d1", None])
    assert ("d1", 1, 1, 0) in log.evidence()
    assert len(log.evidence()) == 2


def test_typed_queries_count_actors_not_searches(log):
    log.query("a", [], text="fever")
    log.query("a", ["d1"], text="fever")
    log.query("b", ["d1"], text="fever", client="c2")
    log.query("c", ["d1"], text="cough")
    log.query("d", ["d1"], text=None)
    assert log.typed() == [("cough", 1), ("fever", 2)]
    assert log.typed(min_actors=2) == [("fever", 2)]


def test_typed_queries_say_when_they_were_first_and_last_typed(log):
    for day in (3, 1, 7):
        log.query(f"q{day}", ["d1"], day=day)
    log.query("far", ["d1"], text="from the future", day=70_000)
    log.connection.execute("UPDATE query SET received_at = ?", [WHEN + timedelta(days=9)])
    log.query("undated", ["d1"], text="never")
    log.connection.execute("UPDATE query SET timestamp = NULL WHERE query_id = 'undated'")
    typed = log.connection.execute(sql.duckdb["typed_queries"], {"min_actors": 1}).fetchall()
    days = [(text, first and (first - WHEN).days, last and (last - WHEN).days) for text, _, first, last, *_ in typed]
    assert days == [("fever", 1, 7), ("from the future", 9, 9), ("never", None, None)]


def test_typed_queries_say_where_most_searches_for_them_were(log):
    for number, (application, device) in enumerate([("web", "phone"), ("kiosk", ""), ("kiosk", "phone"), (None, "tv")]):
        log.query(f"q{number}", ["d1"])
        log.connection.execute(
            "UPDATE query SET application = ?, device = ? WHERE query_id = ?", [application, device, f"q{number}"]
        )
    (row,) = log.connection.execute(sql.duckdb["typed_queries"], {"min_actors": 1}).fetchall()
    assert row[-2:] == ("kiosk", "phone")


def test_an_empty_log_gives_no_evidence(log):
    assert log.evidence() == []
