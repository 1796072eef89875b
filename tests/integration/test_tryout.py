"""A trial, from its begin to a promotion or a rollback, on a real log store and a real pointer."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from relevanced.daemon import history
from relevanced.daemon.config import Settings
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exploration import trial_policy
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.queries import cluster_key
from relevanced.daemon.records import Serving, VersionState
from relevanced.daemon.status import status_of, status_sentences, trials_table
from relevanced.daemon.trial import TrialPolicy
from relevanced.daemon.tryout import begin_trial, check_trial, observe, open_trial, stop_trial, trials
from relevanced.daemon.wiring import Parts

NOW = datetime.now(UTC)
TEXTS = [f"word{number}" for number in range(1000)]
HELD_OUT = [text for text in TEXTS if is_held_out(cluster_key(text), HoldoutPolicy())]
TRAINING = [text for text in TEXTS if text not in HELD_OUT]


@pytest.fixture
def parts(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Parts]:
    settings = Settings(database_url=SecretStr(new_database_url()), trial=TrialPolicy(share=0.5))
    parts = Parts(tmp_path, settings)
    for state in ("verified", "verified", "verified", "prepared"):
        new_version(parts, state)
    parts.promotion.promote(1, actor="ada", reason="start")
    yield parts
    parts.close()


def new_version(parts: Parts, state: VersionState) -> None:
    with parts.database.connection() as connection:
        version_id = history.register_version(connection, None)
    history.complete_version(parts.database, version_id, Path(f"/models/v{version_id}"), f"words-{version_id}", 64, {})
    history.set_state(parts.database, version_id, state)


def search_and_click(parts: Parts, texts: list[str], version_id: int, *, prefix: str = "", repeated: int = 1) -> None:
    """One searcher for each text, shown one document of each version of the open trial; clicks one version's."""
    trial = open_trial(parts.database)
    assert trial is not None
    records: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        who = {"query_id": f"{prefix}{trial.trial_id}-{version_id}-{number}", "client_id": f"c{prefix}{number}"}
        when = {"timestamp": (NOW + timedelta(minutes=number)).isoformat()}
        teams = [trial.live_version_id, trial.other_version_id]
        shown = [f"d{team}" for team in teams]
        attributes = {"version": teams[0], "policy": trial_policy(trial.trial_id), "ranked_by": [str(t) for t in teams]}
        query = {"user_query": text, "query_response_hit_ids": shown, "query_attributes": attributes}
        click = {"action_name": "click", "event_attributes": {"object": {"object_id": f"d{version_id}"}}}
        records += [{**who, **when, **query}, *[{**who, **when, **click}] * repeated]
    parts.sink.write(records)
    spool = parts.source_openers()["spool"]()
    consume_until_empty(spool, parts.log_store)
    spool.close()


def sentence_of(parts: Parts, now: datetime = NOW) -> str:
    outcome = check_trial(parts.stages, now)
    assert outcome is not None
    return outcome.sentence


def test_what_people_prefer_becomes_live_and_goes_on_being_watched(parts: Parts) -> None:
    begun = begin_trial(parts.stages, 2, "promotion")
    assert begun.sentence == "Version 2 is on trial against version 1 (trial 1)."
    assert parts.promotion.serving() == Serving(1, None, 1, 2, "promotion")
    assert "stays on trial: 0 preferences for it" in sentence_of(parts)

    search_and_click(parts, HELD_OUT[:100], 2)
    assert sentence_of(parts) == (
        "Promoted version 2 in place of 1; trial 1 of version 2 ended: 100 preferences for it and 0 for live on 100"
        " held-out queries (+1.00, +0.69 to +1.00). Version 1 goes on being compared with version 2 (trial 2)."
    )
    assert parts.promotion.serving() == Serving(2, 1, 2, 1, "observation")
    assert history.serving_history(parts.database)[0]["actor"] == "trial 1"


def test_a_worse_version_that_is_live_is_rolled_back_by_itself(parts: Parts) -> None:
    parts.promotion.promote(2, actor="ada", reason="by mistake")
    observe(parts.stages)
    assert parts.promotion.serving() == Serving(2, 1, 1, 1, "observation")
    search_and_click(parts, HELD_OUT[:100], 1)

    assert sentence_of(parts).startswith("Rolled back from version 2 to 1; trial 1 of version 1 ended: 100 preferences")
    assert parts.promotion.serving() == Serving(1, 2)
    assert check_trial(parts.stages, NOW) is None


def test_a_candidate_that_people_do_not_want_is_rejected(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:100], 1)
    assert sentence_of(parts).startswith("Rejected version 2; trial 1 of version 2 ended: 0 preferences for it and 100")
    assert history.version(parts.database, 2).state == "rejected"
    assert parts.promotion.serving() == Serving(1, None)


def test_a_live_version_that_holds_stays_and_so_does_the_one_before_for_a_rollback(parts: Parts) -> None:
    parts.promotion.promote(2, actor="ada", reason="better")
    observe(parts.stages)
    search_and_click(parts, HELD_OUT[:100], 2)
    assert sentence_of(parts).startswith("Version 2 holds against 1; trial 1")
    assert history.version(parts.database, 1).state == "verified"


def test_training_queries_one_eager_person_and_robots_prove_nothing(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, TRAINING[:200], 2)
    assert "stays on trial: 0 preferences for it and 0" in sentence_of(parts)
    search_and_click(parts, HELD_OUT[:1] * 1, 2, prefix="eager", repeated=30)
    assert "stays on trial: 1 preferences for it and 0" in sentence_of(parts)


def test_a_trial_that_tells_nothing_ends_in_time_and_the_candidate_with_it(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    assert "stays on trial" in sentence_of(parts, datetime.now(UTC) + timedelta(days=13))
    ended = sentence_of(parts, datetime.now(UTC) + timedelta(days=15))
    assert ended.startswith("After 14 days; trial 1 of version 2 ended: 0 preferences")
    assert history.version(parts.database, 2).state == "rejected"
    assert trials(parts.database)[0]["verdict"] == "undecided"


def test_when_somebody_changes_what_is_live_the_trial_against_it_is_void(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:100], 2)
    parts.promotion.promote(3, actor="ada", reason="in a hurry")
    assert parts.promotion.serving() == Serving(3, 1)
    assert sentence_of(parts) == "The live version has changed; trial 1 of version 2 ended."
    assert parts.promotion.serving().live_version_id == 3


def test_a_process_that_died_after_the_promotion_does_it_no_second_time(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:100], 2)
    parts.promotion.promote(2, actor="trial 1", reason="as the trial did before it died")
    assert "ended" in sentence_of(parts)
    assert [row["verb"] for row in history.serving_history(parts.database)] == ["promote", "promote"]


def test_a_candidate_takes_the_place_of_an_observation_but_not_of_another_candidate(parts: Parts) -> None:
    parts.promotion.promote(2, actor="ada", reason="better")
    observe(parts.stages)
    begin_trial(parts.stages, 3, "promotion")
    assert begin_trial(parts.stages, 3, "promotion").numbers == {"trial_id": 2}  # said twice, it is one
    new_version(parts, "verified")
    with pytest.raises(BadInput, match=r"Another version is on trial; `relevanced trial stop`"):
        begin_trial(parts.stages, 5, "promotion")
    assert stop_trial(parts.stages, "Ada wants another").sentence.startswith("Ada wants another; trial 2 of version 3")
    assert begin_trial(parts.stages, 5, "promotion").sentence.startswith("Version 5 is on trial against")


def test_only_a_verified_version_that_is_not_live_can_be_tried(parts: Parts) -> None:
    for version_id, reason in ((1, "is live"), (4, "is prepared, and only a verified version can be tried")):
        with pytest.raises(BadInput, match=reason):
            begin_trial(parts.stages, version_id, "promotion")
    with pytest.raises(BadInput, match="No version is on trial"):
        stop_trial(parts.stages, "why not")


def test_of_a_popular_query_the_first_actors_stand_for_all(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:1] * 50, 2)
    assert "stays on trial: 10 preferences for it and 0" in sentence_of(parts)


def test_what_a_trial_has_shown_fits_into_a_line(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:30], 2)
    sentence_of(parts)
    (sentence,) = [line for line in status_sentences(status_of(parts.database, parts.log_store)) if "on trial" in line]
    assert sentence.endswith(": 30 preferences for it and 0 for live so far (+1.00, +0.36 to +1.00).")
    page = Console(width=100, file=io.StringIO())
    page.print(trials_table(trials(parts.database)))
    assert isinstance(page.file, io.StringIO)
    assert "30 : 0" in page.file.getvalue()
    assert "+0.36 to +1.00" in page.file.getvalue()


def test_a_newer_candidate_takes_the_place_of_one_that_had_its_chance(parts: Parts) -> None:
    begin_trial(parts.stages, 2, "promotion")
    search_and_click(parts, HELD_OUT[:49], 1, prefix="a")
    search_and_click(parts, HELD_OUT[49:98], 2, prefix="b")
    with pytest.raises(BadInput, match="Another version is on trial"):
        begin_trial(parts.stages, 3, "promotion")
    search_and_click(parts, HELD_OUT[98:100], 2, prefix="c")
    assert "Version 3 is on trial against version 1" in begin_trial(parts.stages, 3, "promotion").sentence
    assert "A newer candidate takes its place; trial 1 of version 2 ended" in trials(parts.database)[1]["sentence"]
    assert history.version(parts.database, 2).state == "rejected"
