"""Bots and heavy but human users, simulated; what marks the ones and what the others may do."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced import sql
from relevanced.consumers.clicks import CLICK
from relevanced.consumers.feedback import FEEDBACK
from relevanced.consumers.impressions import IMPRESSION, QUERY
from relevanced.daemon.bots import BotPolicy
from relevanced.daemon.log_store import run
from relevanced.daemon.signals import SignalPolicy

MORNING = datetime(2026, 1, 5, 8, tzinfo=UTC)
POLICY = BotPolicy()
SIGNALS = SignalPolicy()


class Traffic:
    """The rows of some actors; searches and clicks by their seconds after the morning."""

    def __init__(self) -> None:
        self.queries: list[dict[str, object]] = []
        self.impressions: list[dict[str, object]] = []
        self.clicks: list[dict[str, object]] = []

    def undated_search(self, actor: str) -> None:
        self.search(actor, 0)
        self.queries[-1]["timestamp"] = None

    def search(self, actor: str | None, seconds: float, *, query_id: str | None = None, text: str = "fever") -> str:
        query_id = query_id or f"q{len(self.queries)}"
        self.queries.append(
            {
                "query_id": query_id,
                "user_query": text,
                "client_id": actor,
                "timestamp": MORNING + timedelta(seconds=float(seconds)),
                "hit_ids": ["d1", "d2", "d3"],
                "page_offset": 0,
                "version": "1",
            }
        )
        return query_id

    def click(self, actor: str | None, seconds: float, query_id: str, document_id: str = "d1") -> None:
        at = MORNING + timedelta(seconds=float(seconds))
        self.clicks.append({"query_id": query_id, "document_id": document_id, "client_id": actor, "timestamp": at})

    def impression(self, actor: str | None, query_id: str, document_id: str, position: int) -> None:
        self.impressions.append(
            {"query_id": query_id, "document_id": document_id, "client_id": actor, "position": position}
        )

    def bots(self, policy: BotPolicy = POLICY) -> dict[str, str]:
        """actor -> the bound it broke."""
        with self._log() as log:
            rows = log.execute(sql.duckdb["bots"], asdict(policy)).to_arrow_table().to_pylist()
        return {row["actor"]: row["bound"] for row in rows}

    def evidence(self, policy: BotPolicy = POLICY) -> tuple[list[object], list[object]]:
        """The typed queries and the evidence that mining sees."""
        with self._log() as log:
            log.register("bots", log.execute(sql.duckdb["bots"], asdict(policy)).to_arrow_table())
            typed = log.execute(sql.duckdb["typed_queries"], {"min_actors": 1}).to_arrow_table()
            keys = typed.select(["user_query"]).append_column("query_key", typed["user_query"])
            log.register("query_keys", keys)
            log.register("signals", SIGNALS.table())
            log.register("applications_from_0", log.execute(sql.duckdb["applications_from_0"]).to_arrow_table())
            evidence = run(log, "evidence", SIGNALS.parameters()).to_arrow_table()
            return typed.to_pylist(), evidence.to_pylist()

    def _log(self) -> duckdb.DuckDBPyConnection:
        log = duckdb.connect(config={"threads": 1})
        received = pa.field("received_at", pa.timestamp("us", "UTC"))
        log.register("query", pa.Table.from_pylist(self.queries, schema=QUERY.append(received)))
        log.register("impression", pa.Table.from_pylist(self.impressions, schema=IMPRESSION))
        log.register("click", pa.Table.from_pylist(self.clicks, schema=CLICK))
        log.register("feedback", FEEDBACK.empty_table())
        return log


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    found = Traffic()
    for person in range(5):  # who never stands out
        query_id = found.search(f"person{person}", 60 * person)
        found.click(f"person{person}", 60 * person + 7, query_id)
    return found


def human_gaps(rng: np.random.Generator, count: int) -> np.ndarray:
    """Seconds between a person's actions: log-normal with a median of 12 s, most of them between 4 and 36."""
    return rng.lognormal(np.log(12), 0.9, count)


def test_who_searches_more_than_a_person_can_is_marked(traffic: Traffic) -> None:
    rng = np.random.default_rng(1)
    for seconds in np.sort(rng.uniform(0, 80_000, 600) % 50_000):
        traffic.search("crawler", seconds)
    assert traffic.bots() == {"crawler": "searches_per_day"}


def test_who_clicks_more_than_a_person_can_is_marked(traffic: Traffic) -> None:
    query_id = traffic.search("clicker", 0)
    for number, seconds in enumerate(np.sort(np.random.default_rng(1).uniform(0, 50_000, 600))):
        traffic.click("clicker", seconds, query_id, f"d{number}")
    assert traffic.bots() == {"clicker": "clicks_per_day"}


def test_clicks_without_ids_are_those_of_whoever_searched(traffic: Traffic) -> None:
    query_id = traffic.search("clicker", 0)
    for number, seconds in enumerate(np.sort(np.random.default_rng(1).uniform(0, 50_000, 600))):
        traffic.click(None, seconds, query_id, f"d{number}")
    assert traffic.bots() == {"clicker": "clicks_per_day"}


def test_who_clicks_faster_than_an_eye_sees_is_marked(traffic: Traffic) -> None:
    for number in range(60):
        query_id = traffic.search("script", 300 * number + 17 * (number % 7))
        traffic.click("script", 300 * number + 17 * (number % 7) + 0.03, query_id)
    assert traffic.bots() == {"script": "hasty_clicks"}


def test_who_acts_by_the_clock_is_marked(traffic: Traffic) -> None:
    rng = np.random.default_rng(1)
    for seconds in np.cumsum(5 + rng.uniform(0.1, 0.6, 80)):  # sleeps 5 s, then waits for the answer
        traffic.search("sleeper", seconds)
    assert traffic.bots() == {"sleeper": "even_pauses"}


@pytest.mark.parametrize("seed", range(3))
def test_people_who_search_all_day_are_not(traffic: Traffic, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for person in range(20):
        now = 0.0
        for pause in human_gaps(rng, 400):
            now += pause + (1800 if rng.random() < 0.02 else 0)
            query_id = traffic.search(f"librarian{person}", now)
            for _ in range(rng.poisson(1)):
                now += rng.lognormal(np.log(4), 0.8)
                traffic.click(f"librarian{person}", now, query_id, f"d{rng.integers(20)}")
    assert traffic.bots() == {}


def test_a_search_box_that_asks_with_every_key_makes_no_bot_of_who_types(traffic: Traffic) -> None:
    """The box asks at most every 300 ms, evenly; people pause between the words."""
    rng, now = np.random.default_rng(1), 0.0
    for _ in range(40):
        now += rng.lognormal(np.log(20), 0.8)
        for _ in range(10):
            now += 0.3
            traffic.search("typist", now)
    assert traffic.bots() == {}


def test_a_producer_that_stamps_all_of_a_page_with_one_time_makes_no_bot(traffic: Traffic) -> None:
    rng = np.random.default_rng(1)
    for seconds in np.floor(np.cumsum(human_gaps(rng, 100))):
        query_id = traffic.search("person", seconds)
        traffic.click("person", seconds, query_id)
    assert traffic.bots() == {}


def test_opening_several_answers_at_once_makes_no_bot(traffic: Traffic) -> None:
    rng, now = np.random.default_rng(1), 0.0
    for _ in range(30):
        now += rng.lognormal(np.log(30), 0.8)
        query_id = traffic.search("reader", now)
        for document in range(4):
            now += rng.uniform(0.25, 0.9)
            traffic.click("reader", now, query_id, f"d{document}")
    assert traffic.bots() == {}


def test_a_retry_is_no_further_action(traffic: Traffic) -> None:
    for _ in range(600):
        query_id = traffic.search("person", 0, query_id="same")
        traffic.click("person", 5, query_id)
    assert traffic.bots() == {}


def test_searches_without_any_id_are_nobodys(traffic: Traffic) -> None:
    for number in range(600):
        traffic.search(None, 5 * number)
    assert traffic.bots() == {}


def test_a_bound_that_is_moved_brings_its_actors_back(traffic: Traffic) -> None:
    for seconds in np.cumsum(human_gaps(np.random.default_rng(1), 600)):
        traffic.search("person", seconds)
    assert traffic.bots() == {"person": "searches_per_day"}
    assert traffic.bots(BotPolicy(searches_per_day=1000)) == {}


# Few are enough to break a bound here, so that hypothesis can look at many logs.
STRICT = BotPolicy(searches_per_day=12, clicks_per_day=12, min_actions=10)
seconds = st.integers(0, 80_000)
documents = st.sampled_from(["d1", "d2", "d3", "d4"])
searches = st.lists(st.tuples(st.sampled_from("abcd"), seconds, st.sampled_from(["fever", "cough"])), max_size=8)
clicks = st.lists(st.tuples(st.integers(0, 7), seconds, documents), max_size=8)


def people(said: list[tuple[str, int, str]], chosen: list[tuple[int, int, str]]) -> Traffic:
    traffic = Traffic()
    for actor, when, text in said:
        traffic.search(actor, when, text=text)
    for number, when, document in chosen:
        if number < len(said):
            traffic.click(said[number][0], when, f"q{number}", document)
    return traffic


@settings(max_examples=30)
@given(
    searches, clicks, st.lists(st.tuples(st.integers(0, 7), documents, st.booleans(), st.integers(0, 9)), max_size=12)
)
def test_a_bots_rows_change_nothing_in_the_evidence_of_others(said, chosen, meddled) -> None:
    alone, visited = people(said, chosen), people(said, chosen)
    for number in range(13):
        visited.search("bot", 10 * number, query_id=f"bot{number}", text=["fever", "bots' own"][number % 2])
    for number, document, has_id, position in meddled:  # its own searches and other people's
        actor = "bot" if has_id else None
        query_id = f"q{number}" if has_id and number < len(said) else f"bot{number}"
        visited.click(actor, 5 * number, query_id, document)
        visited.impression(actor, query_id, document, position)
        if has_id:
            visited.search("bot", 5 * number, query_id=query_id, text="bots' own")
    assert visited.bots(STRICT) == {"bot": "searches_per_day"}
    assert visited.evidence(STRICT) == alone.evidence(STRICT)


@settings(max_examples=30)
@given(searches, clicks)
def test_below_the_bounds_nobody_is_marked(said, chosen) -> None:
    assert people(said, chosen).bots(BotPolicy(searches_per_day=16, clicks_per_day=16, min_actions=17)) == {}


def test_searches_without_a_time_are_of_no_day() -> None:
    traffic = Traffic()
    for _ in range(POLICY.searches_per_day + 1):
        traffic.undated_search("ann")
    assert traffic.bots() == {}
