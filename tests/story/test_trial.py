"""A candidate that the gate cannot judge, from the first click to a promotion that people decided."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relevanced.daemon import history
from relevanced.daemon.arms import arms_of, runs_of
from relevanced.daemon.config import load_settings
from relevanced.daemon.contrast import contrast
from relevanced.daemon.cycle import begin_cycle
from relevanced.daemon.judged_queries import held_out_queries
from relevanced.daemon.ports import silent
from relevanced.daemon.tryout import check_trial, trials
from relevanced.daemon.wiring import Parts, run_open_cycle
from tests.story.town import SETTINGS, live_a_week, settle, small_dataset

# No town asks so many held-out queries, so the gate never knows; who searches here may well decide on less than usual.
IN_DOUBT = (
    SETTINGS.replace("min_queries = 10\n", "min_queries = 100000\n")
    + """
[holdout]
share = 0.4

[trial]
share = 1
min_queries = 5
min_preferences = 10
confidence = 0.5

[exploration]
mix_share = 1
"""
)


def test_a_candidate_in_doubt_is_tried_on_people_and_promoted_when_they_prefer_it(
    new_home: Callable[[], Path], tmp_path: Path
) -> None:
    home, dataset = new_home(), small_dataset(tmp_path / "hpo")
    settle(home, dataset, IN_DOUBT)
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    cycle = run_open_cycle(parts, begin_cycle(parts.database, "story"), silent, lambda *_: None)

    steps = history.steps(parts.database, cycle.cycle_id)
    assert [(step["step"], step["verdict"]) for step in steps] == [
        ("mine", "done"),
        ("train", "done"),
        ("gate", "trial"),
        ("index", "done"),
        ("verify", "accepted"),
        ("promote", "trial"),
    ]
    serving = parts.promotion.serving()
    assert (serving.live_version_id, serving.other_version_id) == (1, 2)

    for week in range(1, 4):
        live_a_week(parts, dataset, week)
        outcome = check_trial(parts.stages, parts.clock.now())
        assert outcome is not None
        if outcome.verdict != "trial":
            break
    assert outcome.sentence.startswith("Promoted version 2 in place of 1; trial 1 of version 2 ended:"), (
        outcome.sentence
    )
    assert parts.promotion.serving().live_version_id == 2
    assert [(trial["purpose"], trial["verdict"]) for trial in trials(parts.database)] == [
        ("observation", None),
        ("promotion", "better"),
    ]
    judged = held_out_queries(parts.stages.directory, None, k=1, max_weight=parts.settings.gate.max_query_weight)
    ndcg = {"1": steps[2]["numbers"]["live_ndcg@10"], "2": steps[2]["numbers"]["ndcg@10"]}
    for names in (("1", "2"), ("2", "1")):
        arms = arms_of(parts.stages, *names, parts.settings.model)
        both = contrast(names, judged, runs_of(parts.stages, arms, judged, silent), parts.settings.gate)
        assert len(both.queries) == steps[2]["numbers"]["queries"]
        measure = both.measures["ndcg@10"]
        assert (measure.first, measure.second) == pytest.approx((ndcg[names[0]], ndcg[names[1]]))
    parts.close()
