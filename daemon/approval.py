"""
Approval: where [gate] approval is manual, a person has the last word on a version that was found better.

In:  a verified version, and why it should be live. Out: rows of `approval`, and a promotion once somebody agrees.
"""

from typing import Any

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Outcome
from relevanced.daemon.stages import Stages


def approvals(database: Database) -> list[dict[str, Any]]:
    """Every version that waits or has waited, the newest first."""
    with database.connection() as connection:
        return connection.execute(sql.postgres["approvals"]).fetchall()


def waiting(database: Database) -> dict[str, Any] | None:
    """The row of the version that waits, if one does."""
    return next((row for row in approvals(database) if row["decided_at"] is None), None)


def ask(stages: Stages, version_id: int, why: str) -> Outcome:
    """
    Let a version wait for a person's word, once. One that waited before it is given up.

    Args:
        why: the sentence of the gate or of the trial that found it better.
    """
    known = next((row for row in approvals(stages.database) if row["version_id"] == version_id), None)
    if known and known["decision"]:  # a killed attempt has asked, and somebody was quick
        return Outcome(f"Version {version_id} was {known['decision']} by {known['actor']}.", verdict="waiting")
    live = stages.promotion.serving().live_version_id
    row = {"version_id": version_id, "live_version_id": live, "why": why}
    replaced = {"version_id": version_id, "actor": "relevanced", "reason": f"Version {version_id} is newer"}
    with stages.database.connection() as connection:
        for older in connection.execute(sql.postgres["replace_approval"], replaced).fetchall():
            connection.execute(
                sql.postgres["set_version_state"], {"version_id": older["version_id"], "state": "rejected"}
            )
        connection.execute(sql.postgres["ask_approval"], row)
    sentence = f"Version {version_id} waits for approval; `relevanced approve {version_id}` makes it live."
    return Outcome(sentence, {"version": version_id}, "waiting")


def approve(stages: Stages, version_id: int, actor: str, reason: str) -> Outcome:
    """
    Put the version that waits in place of the live one.

    The pointer moves first: an approval without its promotion would be lost, a promotion without its approval is found
    in the history.

    Raises: BadInput when it does not wait, or another version is live than the one that it was found better than.
    """
    row = _waits(stages, version_id)
    live = stages.promotion.serving().live_version_id
    if live not in (row["live_version_id"], version_id):
        raise BadInput(
            f"Version {version_id} was found better than version {row['live_version_id']}, and version {live} is live"
            f" now; `relevanced compare {live} {version_id}` tells more, `relevanced promote {version_id}` insists."
        )
    outcome = stages.promotion.promote(version_id, actor=actor, reason=f"{reason}. {row['why']}")
    _decide(stages, version_id, "approved", actor, reason)
    return outcome


def reject(stages: Stages, version_id: int, actor: str, reason: str) -> Outcome:
    """
    Refuse the version that waits; live stays.

    Raises: BadInput when it does not wait.
    """
    _waits(stages, version_id)
    history.set_state(stages.database, version_id, "rejected")
    _decide(stages, version_id, "rejected", actor, reason)
    return Outcome(f"Rejected version {version_id}: {reason}. The live version stays.", {"version": version_id})


def _waits(stages: Stages, version_id: int) -> dict[str, Any]:
    row = waiting(stages.database)
    if row is None or row["version_id"] != version_id:
        who = "No version waits" if row is None else f"Version {row['version_id']} waits"
        raise BadInput(f"{who} for approval, not version {version_id}; `relevanced versions` tells what there is.")
    return row


def _decide(stages: Stages, version_id: int, decision: str, actor: str, reason: str) -> None:
    row = {"version_id": version_id, "decision": decision, "actor": actor, "reason": reason}
    with stages.database.connection() as connection:
        connection.execute(sql.postgres["decide_approval"], row)
