import numpy as np
import pytest

from relevanced.daemon.click_model import ClickModelPolicy, fit_pairs
from relevanced.daemon.identification import Identification, identify
from relevanced.daemon.pairs import gather
from relevanced.daemon.signals import SignalPolicy
from tests.clicks import LOVBENCH, Traffic, simulate

POLICY, SIGNALS = ClickModelPolicy(), SignalPolicy()


def identified(**traffic) -> Identification:
    log = simulate(Traffic(**traffic))
    pairs = gather(log.evidence, log.ranks, 50)
    return identify(pairs, fit_pairs(pairs, 50, POLICY, SIGNALS), POLICY, SIGNALS)


@pytest.mark.parametrize("many", [False, True])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(many, monkeypatch):
    """Over six logs and nine positions; an estimate that leans on its start and on the ranks is a little off itself."""
    if many:
        monkeypatch.setattr("relevanced.daemon.identification._MANY_PAIRS", 100)
    held = []
    for seed in range(6):
        found = identified(swap_probability=0.25, mean_sessions=20, seed=seed)
        held.append((found.low <= LOVBENCH) & (found.high >= LOVBENCH))
    assert np.mean([row[1:] for row in held]) > 0.8


def test_more_traffic_narrows_the_intervals():
    few, many = (identified(swap_probability=0.25, mean_sessions=sessions).uncertainty for sessions in (4, 40))
    assert many < 0.6 * few


def test_the_sentence_says_what_to_switch_on_where_nothing_was_swapped():
    found = identified()
    assert found.moved == 0
    assert "swap_probability" in found.sentence
    swapped = identified(swap_probability=0.25, mean_sessions=40)
    assert swapped.moved > 0.2
    assert "swap_probability" not in swapped.sentence


def test_what_stood_at_several_positions_under_several_versions_counts_as_what_was_swapped():
    found = identified(skill=(1.5, 2.5))
    assert found.moved > 0.1


def test_without_evidence_nothing_is_known_to_have_moved():
    log = simulate(Traffic(queries=20, mean_sessions=1))
    pairs = gather(log.evidence.slice(0, 0), log.ranks.slice(0, 0), 0)
    found = identify(pairs, fit_pairs(pairs, 0, POLICY, SIGNALS), POLICY, SIGNALS)
    assert found.moved == 0
    assert found.low.shape == found.high.shape == (10,)
