"""
Promotion: which version answers.

In:  a verified version. Out: the pointer, moved in one statement, with its row of history in the same transaction.
Search reads the pointer once per request.
"""

from collections.abc import Mapping
from typing import Any, Literal

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Outcome, Serving

Verb = Literal["promote", "rollback"]


class Promotion:
    """Moves the pointer, forward and back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serving(self) -> Serving:
        """Read the pointer."""
        with self._database.connection() as connection:
            (row,) = connection.execute(sql.postgres["serving"])
        return Serving(**row)

    def promote(self, version_id: int, *, actor: str, reason: str) -> Outcome:
        """
        Put a verified version in place of the live one.

        Raises: BadInput when the version is not verified, or another promotion came first.
        """
        live = self.serving().live_version_id
        version = history.version(self._database, version_id)
        if live == version_id:
            return Outcome(f"Version {version_id} is live already; nothing was changed.", {"live_version": live})
        if version.state != "verified":
            raise BadInput(
                f"Version {version_id} is {version.state}, and only a verified version can be promoted; "
                f"{_REMEDY[version.state].format(version_id)}"
            )
        change = self._change("promote", actor, reason, {"version_id": version_id, "expected_live_version_id": live})
        if live is None:
            return Outcome(f"Promoted version {version_id}, the first to be live.", change)
        return Outcome(
            f"Promoted version {version_id} in place of {live}; `relevanced rollback` returns to {live}.", change
        )

    def rollback(self, *, actor: str, reason: str) -> Outcome:
        """
        Swap live and previous; said twice, it takes itself back.

        Raises: BadInput when nothing was live before, the previous version was rejected since, or another change came
            first.
        """
        serving = self.serving()
        live, previous = serving.live_version_id, serving.previous_version_id
        if live is None:
            raise BadInput("No version is live yet, so there is nothing to roll back; load documents first.")
        if previous is None:
            raise BadInput(
                f"Version {live} cannot be rolled back: no version was live before it. "
                "`relevanced versions` lists the versions."
            )
        state = history.version(self._database, previous).state
        if state != "verified":
            raise BadInput(
                f"Version {live} cannot be rolled back: version {previous} is {state}; "
                f"{_REMEDY[state].format(previous)}"
            )
        change = self._change("rollback", actor, reason, {"expected_live_version_id": live})
        return Outcome(
            f"Rolled back from version {live} to {previous}; `relevanced rollback` again returns to {live}.", change
        )

    def _change(self, verb: Verb, actor: str, reason: str, expected: Mapping[str, Any]) -> dict[str, Any]:
        """Move the pointer, write the history and wake the listeners, all or nothing."""
        with self._database.connection() as connection:
            row = connection.execute(sql.postgres[f"{verb}_version"], expected).fetchone()
            if row is None:
                raise BadInput(
                    "Another change of the live version came first; nothing was changed. "
                    "`relevanced status` says what is live now."
                )
            connection.execute(
                sql.postgres["note_serving_change"], {"verb": verb, "actor": actor, "reason": reason, **row}
            )
            connection.execute(sql.postgres["tell_serving_change"], row)
        return {"live_version": row["live_version_id"], "previous_version": row["previous_version_id"]}


# What brings a version of each state on the way to being live.
_REMEDY: Mapping[str, str] = {
    "candidate": "`relevanced prepare {0}`, then `relevanced verify {0}`.",
    "prepared": "`relevanced verify {0}` first.",
    "rejected": "`relevanced prepare {0}`, then `relevanced verify {0}`, would check it anew.",
}
