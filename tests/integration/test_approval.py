"""A version that was found better and waits for a person's word, on a real database and a real pointer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from relevanced.daemon import history
from relevanced.daemon.approval import approvals, approve, ask, reject, waiting
from relevanced.daemon.config import Settings
from relevanced.daemon.cycle import begin_cycle
from relevanced.daemon.errors import BadInput
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.status import status_of, status_sentences
from relevanced.daemon.steps import promote
from relevanced.daemon.trial import Preference, TrialPolicy
from relevanced.daemon.tryout import begin_trial, check_trial
from relevanced.daemon.wiring import Parts


@pytest.fixture
def parts(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Parts]:
    """Four verified versions; the first is live."""
    settings = Settings(
        database_url=SecretStr(new_database_url()),
        gate=GatePolicy(approval="manual"),
        trial=TrialPolicy(share=0.5),
    )
    parts = Parts(tmp_path, settings)
    for number in range(1, 5):
        with parts.database.connection() as connection:
            version_id = history.register_version(connection, None)
        history.complete_version(parts.database, version_id, Path(f"/m{number}"), f"words-{number}", 64, {})
        history.set_state(parts.database, version_id, "verified")
    parts.promotion.promote(1, actor="ada", reason="start")
    yield parts
    parts.close()


def live(parts: Parts) -> int | None:
    return parts.promotion.serving().live_version_id


def state(parts: Parts, version_id: int) -> str:
    return history.version(parts.database, version_id).state


def test_a_version_that_waits_is_live_once_somebody_agrees_and_the_history_says_who_and_why(parts: Parts) -> None:
    asked = ask(parts.stages, 2, "NDCG@10 rose by 0.031.")
    assert (asked.verdict, live(parts)) == ("waiting", 1)
    assert any(
        "Version 2 waits for approval since" in line
        for line in status_sentences(status_of(parts.database, parts.log_store))
    )

    assert approve(parts.stages, 2, "grace", "looked at twenty").sentence.startswith("Promoted version 2 in place of 1")
    assert (live(parts), waiting(parts.database)) == (2, None)
    change = history.serving_history(parts.database)[0]
    assert (change["actor"], change["reason"]) == ("grace", "looked at twenty. NDCG@10 rose by 0.031.")
    with pytest.raises(BadInput, match="No version waits for approval, not version 2"):
        approve(parts.stages, 2, "grace", "again")
    assert not any("waits" in line for line in status_sentences(status_of(parts.database, parts.log_store)))


def test_a_version_that_is_refused_stays_where_it_is(parts: Parts) -> None:
    ask(parts.stages, 2, "better")
    assert reject(parts.stages, 2, "grace", "part numbers").sentence.startswith("Rejected version 2: part numbers")
    assert (live(parts), state(parts, 2)) == (1, "rejected")
    (row,) = approvals(parts.database)
    assert (row["decision"], row["actor"], row["reason"]) == ("rejected", "grace", "part numbers")


def test_a_newer_one_takes_the_place_of_the_one_that_waits_and_asking_twice_changes_nothing(parts: Parts) -> None:
    ask(parts.stages, 2, "better")
    ask(parts.stages, 3, "better still")
    ask(parts.stages, 3, "better still")
    assert [(row["version_id"], row["decision"]) for row in approvals(parts.database)] == [(3, None), (2, "replaced")]
    assert state(parts, 2) == "rejected"
    with pytest.raises(BadInput, match="Version 3 waits for approval, not version 2"):
        reject(parts.stages, 2, "grace", "late")
    assert ask(parts.stages, 2, "better").sentence == "Version 2 was replaced by relevanced."
    assert waiting(parts.database)["version_id"] == 3  # type: ignore[index]


def test_against_another_live_version_the_comparison_says_nothing_any_more(parts: Parts) -> None:
    ask(parts.stages, 3, "better")
    parts.promotion.promote(2, actor="ada", reason="meanwhile")
    with pytest.raises(BadInput, match="was found better than version 1, and version 2 is live now"):
        approve(parts.stages, 3, "grace", "yes")
    assert live(parts) == 2
    parts.promotion.promote(3, actor="ada", reason="all the same")
    assert not any("waits" in line for line in status_sentences(status_of(parts.database, parts.log_store)))


def test_an_approval_killed_after_its_promotion_is_ended_by_the_next(parts: Parts) -> None:
    ask(parts.stages, 2, "better")
    parts.promotion.promote(2, actor="grace", reason="the part before the kill")
    assert approve(parts.stages, 2, "grace", "yes").sentence == "Version 2 is live already; nothing was changed."
    assert approvals(parts.database)[0]["decision"] == "approved"


def test_the_step_promote_lets_an_accepted_candidate_wait(parts: Parts) -> None:
    cycle = replace(begin_cycle(parts.database, "test"), candidate_version_id=2)
    with parts.database.connection() as connection:
        connection.execute(
            "INSERT INTO relevanced.cycle_step (cycle_id, step, verdict, sentence, numbers, ended_at)"
            " VALUES (%s, 'gate', 'accepted', 'Accepted candidate 2.', %s, now())",
            [cycle.cycle_id, Jsonb({})],
        )
    outcome = promote(parts.stages, cycle, silent)
    assert (outcome.verdict, live(parts)) == ("waiting", 1)
    assert waiting(parts.database)["why"] == "Accepted candidate 2."  # type: ignore[index]
    approve(parts.stages, 2, "grace", "yes")
    assert promote(parts.stages, cycle, silent).sentence == "Version 2 was approved by grace."
    assert live(parts) == 2


def test_a_version_that_people_prefer_waits_too(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_trial(parts.stages, 2, "promotion")
    better = Preference("better", 0.5, 0.3, 0.7, 300, 100, 200)
    monkeypatch.setattr("relevanced.daemon.tryout.judge_trial", lambda *_: better)
    outcome = check_trial(parts.stages, datetime.now(UTC))
    assert outcome is not None
    assert (outcome.verdict, live(parts)) == ("waiting", 1)
    assert waiting(parts.database)["why"].startswith("Preferred in trial 1")  # type: ignore[index]
    approve(parts.stages, 2, "grace", "yes")
    assert live(parts) == 2
