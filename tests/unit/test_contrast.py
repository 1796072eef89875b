"""Two rankings side by side: the gate's own figures, sentences that say what they mean, and a picture of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.contrast import Contrast, JudgedQueries, MeasureContrast, QueryContrast, contrast
from relevanced.daemon.contrast_plot import HEIGHT, WIDTH, draw
from relevanced.daemon.gate import GatePolicy, compare

NAMES = ("version 1", "model e5")
POLICY = GatePolicy(min_queries=2, confidence=0.95)
GOOD_FIRST, BAD_FIRST = {"good": 0.9, "bad": 0.5, "other": 0.1}, {"good": 0.1, "bad": 0.9, "other": 0.5}


def asked(*keys: str, judged: Sequence[str] = ("good", "bad"), **changes: object) -> JudgedQueries:
    """Queries with one relevant document each."""
    queries = JudgedQueries(
        source="held-out queries of cycle 4",
        texts={key: key.title() for key in keys},
        qrels={key: {"good": 0.9} for key in keys},
        judged={key: set(judged) for key in keys},
        weights=dict.fromkeys(keys, 1.0),
        shown=set(keys),
        documents={"good", "bad"},
    )
    return replace(queries, **changes)  # type: ignore[arg-type]


def ranked(judged: JudgedQueries, best: str) -> dict[str, dict[str, float]]:
    """The relevant document first for the queries that begin with this letter, and third for all others."""
    return {key: GOOD_FIRST if key.startswith(best) else BAD_FIRST for key in judged.texts}


def side_by_side(judged: JudgedQueries) -> Contrast:
    return contrast(NAMES, judged, (ranked(judged, "b"), ranked(judged, "a")), POLICY)


def test_who_gains_and_who_loses_is_told_with_the_gates_own_figures() -> None:
    weights = {"a1": 1.0, "a2": 1.0, "b1": 2.0, "b2": 1.0}
    found = side_by_side(asked("a1", "a2", "b1", "b2", weights=weights, shown={"a1", "a2", "b1"}))

    assert [one.user_query for one in found.queries] == ["A1", "A2", "B1", None]
    assert [round(one.difference, 2) for one in found.queries] == [0.5, 0.5, -0.5, -0.5]
    assert found.queries[0].second_top == [("good", True), ("bad", False), ("other", False)]
    assert found.counts() == (2, 2, 0)
    assert found.histogram((-1, 0, 0.5, 1)) == [2, 0, 2]
    assert found.measures["recall@10"].difference == 0
    arms = {"a1": 0.5, "a2": 0.5, "b1": 1.0, "b2": 1.0}, {"a1": 1.0, "a2": 1.0, "b1": 0.5, "b2": 0.5}
    gated = compare(arms[1], arms[0], weights, POLICY, 0.05, candidate=2, live=1)
    measure = found.measures["ndcg@10"]
    assert (measure.difference, measure.low, measure.high) == pytest.approx(gated.interval)
    assert (measure.first, measure.second) == pytest.approx((4 / 5, 3.5 / 5))


def test_turned_round_it_says_the_opposite() -> None:
    judged = asked("a1", "a2", "a3", "b1")
    runs = ranked(judged, "b"), ranked(judged, "a")
    one, other = contrast(NAMES, judged, runs, POLICY), contrast(NAMES[::-1], judged, runs[::-1], POLICY)
    assert one.measures["mrr@10"].difference == pytest.approx(-other.measures["mrr@10"].difference)
    assert (one.counts(), other.counts()) == ((3, 1, 0), (1, 3, 0))


def test_the_verdict_is_better_worse_or_neither_by_the_interval() -> None:
    found = side_by_side(asked("a1", "a2", "b1"))

    def with_interval(difference: float, low: float, high: float, **changes: object) -> str:
        measure = MeasureContrast(0.5, 0.5 + difference, difference, low, high)
        return replace(found, measures={"ndcg@10": measure}, **changes).verdict()  # type: ignore[arg-type]

    on = "on 3 held-out queries of cycle 4"
    assert with_interval(0.1, 0.04, 0.16) == (
        f"Model e5 ranks better than version 1 {on}: NDCG@10 is 0.600 against 0.500, higher by 0.100 (95 % interval"
        " 0.040 to 0.160)."
    )
    assert with_interval(-0.1, -0.16, -0.04).endswith("lower by 0.100 (95 % interval 0.040 to 0.160).")
    assert with_interval(0.1, -0.01, 0.21) == (
        f"Model e5 and version 1 cannot be told apart {on}: NDCG@10 is 0.600 against 0.500, and the 95 % interval of"
        " the difference, -0.010 to +0.210, holds 0."
    )
    assert with_interval(0.1, 0.04, 0.16, min_queries=100).endswith(
        " So few queries prove little; the gate asks for 100."
    )


def test_what_nobody_has_judged_is_told_and_left_out_on_condensed_lists() -> None:
    judged = asked("a1", "b1", judged=["good"])
    assert side_by_side(judged).unjudged() == (
        "Nothing is known to be irrelevant here: any document without a label counts as irrelevant, and judged@10 is"
        " the number of relevant ones among the first ten, 1.0 of version 1 and 1.0 of model e5."
    )
    # "bad" stands above "good" for the first model, and nobody knows whether it is: without it the two are alike.
    judged = asked("a1", "a2", judged=["good", "other"])
    first = {"good": 0.5, "bad": 0.9, "other": 0.1}
    found = contrast(NAMES, judged, ({"a1": first, "a2": first}, ranked(judged, "a")), POLICY)
    assert found.measures["ndcg@10"].difference > 0.3
    assert found.among_judged is not None
    assert found.among_judged.difference == 0
    assert "among the first ten 2.0 are judged of version 1 and 2.0 of model e5. On condensed" in found.unjudged()
    assert "NDCG@10 differs by +0.000 (+0.000 to +0.000)." in found.unjudged()


def test_the_queries_that_differ_most_come_first_and_those_of_few_people_last() -> None:
    found = side_by_side(asked("a1", "a2", "b1"))
    queries = [
        QueryContrast(text, 0.5, 0.5 + change, [], [])
        for text, change in (("x", 0.4), (None, 0.5), ("y", 0.1), ("z", 0.0), (None, -0.1), ("w", -0.3))
    ]
    gained, lost = replace(found, queries=queries).most(2)
    assert [one.user_query for one in gained] == ["x", "y"]
    assert [one.user_query for one in lost] == ["w", None]


differences = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=1, max_size=300)


@given(differences, st.text(), st.sampled_from([WIDTH, 360]))
def test_the_plot_is_well_formed_and_its_bars_stay_within_its_frame(
    changes: list[float], words: str, width: int
) -> None:
    queries = [QueryContrast(words, 0.5, 0.5 + change, [], []) for change in sorted(changes, reverse=True)]
    found = replace(side_by_side(asked("a1", "b1")), queries=queries, second=f"model {words}")
    picture = ElementTree.fromstring(draw(found, width=width))
    better, worse, alike = found.counts()
    paths = {path.get("class"): path.get("d") for path in picture.findall("{*}path")}
    for kind, count in (("gain", better), ("loss", worse)):
        bars = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V[\d.]+Z", paths[kind])
        assert len(bars) == count
        for left, middle, end, right in bars:
            assert 0 < float(left) <= float(right) < width
            assert (0 < float(end) <= float(middle)) if kind == "gain" else (float(middle) <= float(end) < HEIGHT)
    assert len(picture.findall("{*}rect[@class='hit']")) == better + worse
    assert {f"{better} better", f"{alike} alike", f"{worse} worse"} <= {
        text.text for text in picture.iter() if text.text
    }


def test_a_plot_says_no_query_that_few_people_typed() -> None:
    judged = asked("a1", "a2", "b1", shown={"a1"})
    titles = [title.text for title in ElementTree.fromstring(draw(side_by_side(judged))).iter() if "title" in title.tag]
    assert titles == ["NDCG@10 by query, model e5 minus version 1", "A1: 0.50 to 1.00 (+0.50)"]
