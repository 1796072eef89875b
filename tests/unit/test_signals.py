import numpy as np
import pyarrow as pa
import pytest

from relevanced.daemon.click_model import ClickModelPolicy
from relevanced.daemon.signals import LIFTS, SignalPolicy
from tests.clicks import fit_click_model
from tests.unit.test_evidence import Table

RANKS = pa.table(
    {
        "query_key": pa.array([], pa.string()),
        "document_id": pa.array([], pa.string()),
        "rank": pa.array([], pa.int32()),
    }
)


@pytest.fixture
def log():
    return Table()


def said(log, policy=SignalPolicy(), keys=None):  # noqa: B008
    """(query_key, document, position, response) of all that was done."""
    log.evidence(keys, policy)
    names = ("query_key", "document_id", "position", "response")
    return [tuple(row[name] for name in names) for row in log.rows.to_pylist() if row["clicks"]]


def test_a_click_is_short_or_long_by_its_dwell_time(log):
    log.query("a", ["d1", "d2", "d3", "d4"])
    for name, seconds in (("d1", 3), ("d2", 12), ("d3", 30), ("d4", None)):
        log.click("a", name, dwell=seconds)
    responses = ["click:short", "click", "click:long", "click"]
    assert said(log) == [("fever", f"d{place}", place, name) for place, name in enumerate(responses, start=1)]


def test_the_most_telling_action_stands_for_all_of_an_actor(log):
    log.query("a", ["d1", "d2"], day=0)
    log.click("a", "d1", dwell=3)
    log.query("b", ["d2", "d1"], day=1)
    log.feedback("b", "d1", "purchase")
    log.feedback("b", "d2", "upvote")
    log.feedback("b", "d2", "downvote")
    assert said(log) == [("fever", "d1", 1, "purchase"), ("fever", "d2", 1, "downvote")]


def test_an_action_that_is_no_signal_says_nothing(log):
    log.query("a", ["d1", "d2"])
    log.feedback("a", "d1", "watch")
    log.feedback("a", None, "search")
    log.click("a", "d2")
    assert said(log) == [("fever", "d2", 2, "click")]
    assert said(log, SignalPolicy(lift={"click": 1, "watch": 3})) == [("fever", "d1", 1, "watch")]


def test_below_a_click_is_known_to_be_below_it(log):
    log.query("a", ["d1", "d2", "d3"])
    log.click("a", "d2")
    log.evidence()
    assert [(row["document_id"], row["after_click"]) for row in log.rows.to_pylist()] == [
        ("d1", False),
        ("d2", False),
        ("d3", True),
    ]


KEYS = {"ringing in ears": "ringing in ears", "tinnitus": "tinnitus", "weather": "weather"}


def test_what_the_next_words_found_answers_the_first_ones_too(log):
    log.query("a", ["d1"], text="ringing in ears", session="s", seconds=0)
    log.query("b", ["d2"], text="tinnitus", session="s", seconds=40)
    log.click("b", "d2")
    assert said(log, keys=KEYS) == [("ringing in ears", "d2", 0, "reformulation"), ("tinnitus", "d2", 1, "click")]
    assert [row["clicks"] for row in log.rows.to_pylist() if row["clicks"]] == [0.5, 0.5], "it is one voice"
    assert len(said(log, SignalPolicy(reformulation_within=30), KEYS)) == 1
    assert len(said(log, SignalPolicy(lift={"reformulation": 1}), KEYS)) == 1


@pytest.mark.parametrize("found", ["click", "session", "late"])
def test_no_chain_leads_from_a_search_that_found_something_or_to_another_session_or_day(log, found):
    log.query("a", ["d1"], text="ringing in ears", session="s")
    if found == "click":
        log.click("a", "d1")
    log.query("b", ["d2"], text="tinnitus", session="t" if found == "session" else "s", day=found == "late", seconds=40)
    log.click("b", "d2")
    assert ("ringing in ears", "d2", 0, "reformulation") not in said(log, keys=KEYS)


def test_a_short_click_does_not_end_a_search_and_the_chain_ends_with_the_first_good_one(log):
    log.query("a", ["d1"], text="ringing in ears", session="s", seconds=0)
    log.click("a", "d1", dwell=2)
    log.query("b", ["d2"], text="tinnitus", session="s", seconds=10)
    log.click("b", "d2")
    log.query("c", ["d3"], text="weather", session="s", seconds=20)
    log.click("c", "d3")
    reformulated = [row for row in said(log, keys=KEYS) if row[3] == "reformulation"]
    assert reformulated == [("ringing in ears", "d2", 0, "reformulation")]


def test_what_was_done_long_ago_counts_less_when_asked(log):
    log.query("a", ["d1"], client="c1", day=0)
    log.click("a", "d1")
    log.query("b", ["d1"], client="c2", day=7)
    assert log.evidence() == [("d1", 1, 2, 1)]
    assert log.evidence(policy=SignalPolicy(half_life_days=7)) == [("d1", 1, 1.5, 0.5)]


# What a response comes to say


def responses(rng, *, kinds, relevant_rates, other_rates, pairs=600, actors=20):
    """Evidence of pairs at position 1, half of them relevant, where each actor did one thing or nothing."""
    rows = []
    for pair in range(pairs):
        rates = relevant_rates if pair % 2 else other_rates
        counts = rng.multinomial(actors, [*rates, 1 - sum(rates)])
        for kind, count in zip([*kinds, None], counts, strict=True):
            if count:
                rows.append((f"q{pair}", "d", 1, kind, float(count), float(count) if kind else 0.0))
    names = ("query_key", "document_id", "position", "response", "shown", "clicks")
    table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    return table.set_column(2, "position", table["position"].cast(pa.int32()))


def test_the_lift_of_each_response_is_learned():
    kinds = ("click", "downvote", "purchase")
    table = responses(
        np.random.default_rng(1), kinds=kinds, relevant_rates=(0.4, 0.01, 0.2), other_rates=(0.1, 0.1, 0.01)
    )
    model = fit_click_model(table, RANKS, ClickModelPolicy())
    found = [model.lifts[kind] for kind in kinds]
    assert found == pytest.approx([4, 0.1, 20], rel=0.4)


def test_where_people_buy_whatever_they_see_a_purchase_comes_to_say_nothing_and_never_the_contrary():
    table = responses(
        np.random.default_rng(2), kinds=("click", "purchase"), relevant_rates=(0.5, 0.01), other_rates=(0.05, 0.2)
    )
    model = fit_click_model(table, RANKS, ClickModelPolicy())
    assert model.lifts["purchase"] == pytest.approx(1.0)


def test_a_kind_that_was_seen_twice_still_says_what_it_said_at_first():
    table = responses(np.random.default_rng(3), kinds=("click",), relevant_rates=(0.5,), other_rates=(0.1,))
    rare = table.slice(0, 1).set_column(3, "response", pa.array(["cite"]))
    rare = rare.set_column(5, "clicks", rare["shown"])
    model = fit_click_model(pa.concat_tables([table, rare]), RANKS, ClickModelPolicy())
    assert 10 < model.lifts["cite"] < 2 * LIFTS["cite"]
