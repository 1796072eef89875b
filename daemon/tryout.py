"""
Trials: a version is put beside the live one for a share of the sessions, until people's clicks tell which is better.

In:  a verified version, the policy, the log. Out: rows of `trial`, and at the end a promotion or a rollback.
A candidate is tried before it is live where the offline gate could not decide; and after a promotion the version before
goes on being compared, so that harm which no held-out query showed is taken back.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
from psycopg.types.json import Jsonb

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.approval import ask
from relevanced.daemon.bots import marked_bots
from relevanced.daemon.database import Database
from relevanced.daemon.error_budget import HORIZON_DAYS, level_of
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exploration import trial_policy
from relevanced.daemon.holdout import HoldoutPolicy, cluster_hash, is_held_out
from relevanced.daemon.holdout_use import retired_clusters
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.records import Outcome
from relevanced.daemon.stages import Stages
from relevanced.daemon.trial import Preference, judge_trial

Purpose = Literal["promotion", "observation"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that has not ended, as its row has it."""

    trial_id: int
    purpose: Purpose
    live_version_id: int
    other_version_id: int
    started_at: datetime
    level: float | None  # how likely it may promote a version that nobody prefers

    @property
    def actor(self) -> str:
        """Who it is in the history of what was live."""
        return f"trial {self.trial_id}"


def open_trial(database: Database) -> Trial | None:
    """The trial that has not ended, if any."""
    with database.connection() as connection:
        row = connection.execute(sql.postgres["open_trial"]).fetchone()
    return Trial(**{name: row[name] for name in Trial.__dataclass_fields__}) if row else None


def trials(database: Database) -> list[dict[str, Any]]:
    """Every trial, the newest first."""
    with database.connection() as connection:
        return connection.execute(sql.postgres["trials"]).fetchall()


def begin_trial(stages: Stages, other_version_id: int, purpose: Purpose) -> Outcome:
    """
    Put a verified version beside the live one; one that is there already stays.

    Raises: BadInput when trials are switched off, the version is live or not verified, or another is on trial.
    """
    if not stages.trial.share:
        raise BadInput("Trials are switched off; set share under [trial], 0.5 for half of the held-out queries.")
    live = stages.promotion.serving().live_version_id
    version = history.version(stages.database, other_version_id)
    if live is None or other_version_id == live:
        raise BadInput(f"Version {other_version_id} is live, so there is nothing to try it against.")
    if version.state != "verified":
        raise BadInput(
            f"Version {other_version_id} is {version.state}, and only a verified version can be tried;"
            f" `relevanced prepare {other_version_id}`, then `relevanced verify {other_version_id}`."
        )
    running = open_trial(stages.database)
    if running and (running.other_version_id, running.live_version_id) == (other_version_id, live):
        return _begun(running.trial_id, other_version_id, live, purpose)
    if running and running.purpose == "observation":  # what may become live goes before what was
        _end(stages, running, "undecided", "A candidate takes the place on trial", None)
    elif running and gives_way(stages, running):
        found = look(stages, running)
        _end(stages, running, "undecided", "A newer candidate takes its place", found)
        history.set_state(stages.database, running.other_version_id, "rejected")
    level = next_level(stages) if purpose == "promotion" else None
    row = {"purpose": purpose, "live_version_id": live, "other_version_id": other_version_id, "level": level}
    with stages.database.connection() as connection:
        begun = connection.execute(sql.postgres["begin_trial"], row).fetchone()
    if begun is None:
        raise BadInput("Another version is on trial; `relevanced trial stop` ends that.")
    return _begun(begun["trial_id"], other_version_id, live, purpose)


def gives_way(stages: Stages, trial: Trial) -> bool:
    """Whether a candidate may take the place of what is on trial now."""
    if trial.purpose == "observation":
        return True
    found = look(stages, trial)
    return found.verdict == "undecided" and found.for_other + found.for_live >= stages.trial.enough_preferences


def observe(stages: Stages) -> str:
    """After a promotion, go on comparing with the version before; say so in a sentence, or nothing where it is off."""
    previous = stages.promotion.serving().previous_version_id
    if not stages.trial.share or previous is None or history.version(stages.database, previous).state != "verified":
        return ""
    running = open_trial(stages.database)
    if running:
        _end(stages, running, "void", "The live version has changed", None)
    return " " + begin_trial(stages, previous, "observation").sentence


def check_trial(stages: Stages, now: datetime) -> Outcome | None:
    """
    Look at the open trial, and act on what it has shown: promote, reject, or roll back; None without one.

    Every part may be repeated: a process that died after a promotion and before its row finds that live has changed.
    """
    trial = open_trial(stages.database)
    if trial is None:
        return None
    if stages.promotion.serving().live_version_id != trial.live_version_id:
        return _end(stages, trial, "void", "The live version has changed", None)
    found = look(stages, trial)
    if found.verdict != "undecided":
        return _decide(stages, trial, found)
    if now - trial.started_at > timedelta(days=stages.trial.max_days):
        outcome = _end(stages, trial, "undecided", f"After {stages.trial.max_days:g} days", found)
        if trial.purpose == "promotion":
            history.set_state(stages.database, trial.other_version_id, "rejected")
        return outcome
    with stages.database.connection() as connection:
        row = {"trial_id": trial.trial_id, "numbers": Jsonb(found.numbers())}
        connection.execute(sql.postgres["note_trial"], row)
    return Outcome(f"Version {trial.other_version_id} stays on trial: {found}.", found.numbers(), "trial")


def stop_trial(stages: Stages, reason: str) -> Outcome:
    """
    End the open trial as it stands.

    Raises: BadInput when there is none.
    """
    trial = open_trial(stages.database)
    if trial is None:
        raise BadInput("No version is on trial; `relevanced trial start VERSION` begins one.")
    return _end(stages, trial, "undecided", reason, look(stages, trial))


def next_level(stages: Stages, cycle_id: int | None = None, test: int = 1) -> float:
    """
    How likely the next test may promote a version without any gain: its part of the year's error.

    Args:
        cycle_id: whose own tests are not counted, for it may have begun the step before.
        test: which of the tests to come, from 1.
    """
    with stages.database.connection() as connection:
        (row,) = connection.execute(sql.postgres["tests_since_promotion"], {"days": HORIZON_DAYS, "cycle_id": cycle_id})
    return level_of(int(row["tests"]) + test, stages.gate.yearly_error)


def look(stages: Stages, trial: Trial) -> Preference:
    """Judge a trial by what was preferred so far."""
    return judge_trial(preferences(stages, trial), stages.trial, trial.level)


def preferences(stages: Stages, trial: Trial) -> pa.Table:
    """
    What was preferred so far on held-out queries: PREFERENCES of trial.py.

    Those on training queries say how the versions do on what they were taught, which flatters whoever learned most by
    heart.
    """
    snapshot_id = stages.log_store.snapshot()
    bots = {"bots": marked_bots(stages.log_store, snapshot_id, stages.bots)}
    preferred = stages.log_store.read(
        "preferences",
        snapshot_id,
        bots,
        policy=trial_policy(trial.trial_id),
        live=str(trial.live_version_id),
        other=str(trial.other_version_id),
    )
    return pool(preferred, stages.holdout, stages.trial.max_per_query, retired_clusters(stages.database))


def pool(preferred: pa.Table, holdout: HoldoutPolicy, max_per_query: int, retired: Collection[bytes] = ()) -> pa.Table:
    """
    Count actors by held-out query, the first of each; one who typed it in two ways counts once, by the sum.

    Args:
        retired: cluster_hashes of queries that are trained on by now.
    """
    by_actor: dict[tuple[str, str], int] = {}
    columns = (preferred[name].to_pylist() for name in ("user_query", "actor", "preference"))
    for text, actor, preference in zip(*columns, strict=True):
        key = query_key(text)
        by_actor[key, actor] = by_actor.get((key, actor), 0) + preference
    counts: dict[str, list[int]] = {}
    for (key, _), preference in by_actor.items():
        cluster = cluster_key(key)
        if preference and is_held_out(cluster, holdout) and cluster_hash(cluster) not in retired:
            count = counts.setdefault(key, [0, 0])
            count[preference < 0] += sum(count) < max_per_query
    keys = sorted(counts)
    return pa.table(
        {
            "query_key": pa.array(keys, pa.string()),
            "for_other": pa.array([counts[key][0] for key in keys], pa.int64()),
            "for_live": pa.array([counts[key][1] for key in keys], pa.int64()),
        }
    )


def _decide(stages: Stages, trial: Trial, found: Preference) -> Outcome:
    """Act first and note it then: an act that is not noted is found in the pointer, a note without its act is lost."""
    other, live = trial.other_version_id, trial.live_version_id
    reason = f"Preferred in {trial.actor}: {found}."
    if found.verdict == "worse" and trial.purpose == "promotion":
        history.set_state(stages.database, other, "rejected")
        return _end(stages, trial, "worse", f"Rejected version {other}", found)
    if found.verdict == "worse":
        return _end(stages, trial, "worse", f"Version {live} holds against {other}", found)
    if trial.purpose == "observation":
        if stages.promotion.serving().previous_version_id == other:
            stages.promotion.rollback(actor=trial.actor, reason=reason)
        return _end(stages, trial, "better", f"Rolled back from version {live} to {other}", found)
    if stages.gate.approval == "manual":
        asked = ask(stages, other, reason)
        ended = _end(stages, trial, "better", f"Version {other} is preferred and waits for approval", found)
        return Outcome(ended.sentence, asked.numbers, asked.verdict)
    stages.promotion.promote(other, actor=trial.actor, reason=reason)
    ended = _end(stages, trial, "better", f"Promoted version {other} in place of {live}", found)
    return Outcome(ended.sentence + observe(stages), ended.numbers, ended.verdict)


def _end(stages: Stages, trial: Trial, verdict: str, why: str, found: Preference | None) -> Outcome:
    numbers = found.numbers() if found else {}
    sentence = f"{why}; trial {trial.trial_id} of version {trial.other_version_id} ended" + (
        f": {found}." if found else "."
    )
    row = {"trial_id": trial.trial_id, "verdict": verdict, "sentence": sentence, "numbers": Jsonb(numbers)}
    with stages.database.connection() as connection:
        connection.execute(sql.postgres["end_trial"], row)
    return Outcome(sentence, numbers)


def _begun(trial_id: int, other: int, live: int, purpose: Purpose) -> Outcome:
    what = "is on trial against" if purpose == "promotion" else "goes on being compared with"
    return Outcome(f"Version {other} {what} version {live} (trial {trial_id}).", {"trial_id": trial_id}, "trial")
