"""Simulated people click at the rates that their click model says, within four standard errors at fixed seeds."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from relevanced.daemon.records import SearchAnswer
from relevanced.daemon.rehearsal.click_models import (
    DOUBT,
    LOVBENCH_CLICKS,
    READERS,
    SATISFIED,
    TRUST,
    Bias,
    Clicks,
    examination,
)
from relevanced.daemon.rehearsal.searchers import Session
from tests.unit.test_searchers import START, answer, searchers

PAGES = 6_000


def rates(page: SearchAnswer, sessions: int = 2_500, **policy) -> list[float]:
    """Share of sessions of query t1 that click each position."""
    people, clicks = searchers(**policy), Counter[int]()
    for number in range(sessions):
        session = Session("t1", "Find number 1", "somebody", f"session-{number}", START)
        clicks.update(event["event_attributes"]["position"]["ordinal"] for event in people.click(session, page))
    return [clicks[hit.position] / sessions for hit in page.hits]


@pytest.mark.parametrize("bias", ["lovbench", "inverse", "none"])
@pytest.mark.parametrize(("noise", "abandonment"), [(0.0, 0.0), (0.1, 0.0), (0.3, 0.2)])
def test_click_rates_are_examination_times_attraction(bias, noise, abandonment):
    page = answer("d1", "d2", "judged", "d1", *(f"x{place}" for place in range(5, 13)))
    expected = [
        (1 - abandonment) * examination(hit.position, bias) * (1 - noise if hit.document_id == "d1" else noise)
        for hit in page.hits
    ]
    # Four standard errors of a share over 2,500 sessions; the seed is fixed, so this holds or it does not.
    assert rates(page, bias=bias, noise=noise, abandonment=abandonment) == pytest.approx(expected, abs=0.04)


def test_examination_follows_the_counts_of_the_portal_and_ends_with_its_page():
    curve = [examination(position, "lovbench") for position in range(1, 12)]
    assert curve[0] == 1
    assert curve[1] == pytest.approx(2338 / 5041)
    assert len(LOVBENCH_CLICKS) == 10
    assert curve[9] > 0 == curve[10]


def bound(shares: Sequence[float], count: int = PAGES) -> float:
    """Four standard errors of the share that varies most."""
    return 4 * max((share * (1 - share) / count) ** 0.5 for share in shares) + 1e-9


def pages(clicks: Clicks, bias: Bias, noise: float, relevant: Sequence[bool]) -> np.ndarray:
    """Which positions were clicked, bool (pages, positions); `relevant` says of which documents a page consists."""
    rng = np.random.default_rng(5)
    readers = [READERS[clicks](bias, noise) for _ in range(PAGES)]
    rows = [
        [reader.clicks(place, relevant=one, rng=rng) for place, one in enumerate(relevant, start=1)]
        for reader in readers
    ]
    return np.array(rows)


def cascade_rates(bias: Bias, noise: float, relevant: Sequence[bool]) -> list[float]:
    """P(click) by position under the dynamic Bayesian network, by its forward recursion."""
    looks, rates = 1.0, []
    for place, one in enumerate(relevant, start=1):
        attraction = 1 - noise if one else noise
        rates.append(looks * attraction)
        goes_on = min(1.0, examination(place + 1, bias) / examination(place, bias))
        looks *= (1 - attraction * SATISFIED[one]) * goes_on
    return rates


@pytest.mark.parametrize("bias", ["lovbench", "inverse", "none"])
@pytest.mark.parametrize("relevant", [(0,) * 10, (1,) + (0,) * 9, (0, 0, 1, 0, 1, 0, 0, 0, 0, 1)])
def test_a_cascade_clicks_as_the_dynamic_bayesian_network_says(bias, relevant):
    relevant = [bool(one) for one in relevant]
    expected = cascade_rates(bias, 0.1, relevant)
    assert pages("cascade", bias, 0.1, relevant).mean(axis=0) == pytest.approx(expected, abs=bound(expected))


@pytest.mark.parametrize("bias", ["lovbench", "inverse", "none"])
def test_a_cascade_without_clicks_examines_by_the_curve(bias):
    """With no click before it, the last document is looked at as often as the curve says, and clicked if relevant."""
    last = [examination(place, bias) for place in range(1, 11)]
    for place in (2, 5, 10):
        relevant = [False] * (place - 1) + [True]
        share = pages("cascade", bias, 0.0, relevant)[:, -1].mean()
        assert share == pytest.approx(last[place - 1], abs=bound([last[place - 1]]) + 0.002)


def test_a_cascade_seldom_clicks_below_what_satisfied():
    clicked = pages("cascade", "none", 0.1, [True, True, True])
    after = clicked[clicked[:, 0], 1].mean()
    assert after == pytest.approx((1 - SATISFIED[True]) * 0.9, abs=bound([0.2], int(clicked[:, 0].sum())))
    unclicked = clicked[~clicked[:, 0], 1].mean()
    assert unclicked == pytest.approx(0.9, abs=bound([0.9], int((~clicked[:, 0]).sum())))


@pytest.mark.parametrize("bias", ["lovbench", "none"])
def test_trust_lifts_clicks_on_what_is_not_relevant_at_the_top_and_lowers_those_on_what_is_below(bias):
    places = range(1, 11)
    wrong = [examination(place, bias) * (0.1 + TRUST / place) for place in places]
    right = [examination(place, bias) * (0.9 - DOUBT * (1 - 1 / place)) for place in places]
    assert pages("trust", bias, 0.1, [False] * 10).mean(axis=0) == pytest.approx(wrong, abs=bound(wrong))
    assert pages("trust", bias, 0.1, [True] * 10).mean(axis=0) == pytest.approx(right, abs=bound(right))


def test_trust_never_makes_what_is_not_relevant_more_attractive_than_what_is():
    wrong, right = (pages("trust", "none", 0.5, [one] * 10).mean(axis=0) for one in (False, True))
    assert wrong == pytest.approx(right, abs=2 * bound(right))


@pytest.mark.parametrize("clicks", ["pbm", "trust"])
def test_without_a_cascade_a_click_tells_nothing_of_the_others_on_the_page(clicks):
    clicked = pages(clicks, "none", 0.2, [True, True, False])
    for first, second in pairwise(range(3)):
        given, without = (clicked[clicked[:, first] == one, second].mean() for one in (True, False))
        assert given == pytest.approx(without, abs=0.03)


@pytest.mark.parametrize("clicks", ["pbm", "cascade", "trust"])
def test_searchers_click_by_the_model_they_are_told(clicks):
    page = answer("d1", "x1", "d1", "x2")
    relevant = [True, False, True, False]
    expected = pages(clicks, "inverse", 0.1, relevant).mean(axis=0)
    assert rates(page, clicks=clicks, bias="inverse", abandonment=0) == pytest.approx(list(expected), abs=0.04)
