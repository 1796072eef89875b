"""
Promotion: which version answers.

In:  a verified version. Out: the pointer, moved in one statement, with its row of history in the same transaction.
Search reads the pointer once per request. A promotion has two phases: it announces the version, and moves the pointer
once each living replica has that version ready. All of it is rows and short transactions, so PgBouncer may pool them.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import psycopg
from annotated_types import Gt
from psycopg.rows import DictRow

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, FailStep, Retry
from relevanced.daemon.keeping import RetentionPolicy, fresh_versions
from relevanced.daemon.ports import Progress, silent
from relevanced.daemon.records import Outcome, Serving, Version

Verb = Literal["promote", "rollback"]

_LOOK_SECONDS: Final = 0.1  # between two looks at the replicas


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionPolicy:
    """How a promotion waits for the processes that search."""

    # For all living replicas to have the version ready; past it the promotion is given up, and live stays. A model
    # loads in seconds, but a large index is read into memory too.
    patience_seconds: Annotated[float, Gt(0)] = 120.0
    # A replica that was not heard of for so long is dead or frozen, and is not waited for; each says that it lives five
    # times as often.
    silence_seconds: Annotated[float, Gt(0)] = 5.0


class Promotion:
    """Moves the pointer, forward and back."""

    def __init__(
        self, database: Database, retention: RetentionPolicy | None = None, policy: PromotionPolicy | None = None
    ) -> None:
        self._database = database
        self._retention = retention or RetentionPolicy()
        self._policy = policy or PromotionPolicy()

    def serving(self) -> Serving:
        """Read the pointer."""
        with self._database.connection() as connection:
            (row,) = connection.execute(sql.postgres["serving"])
        return Serving(**row)

    def promote(self, version_id: int, *, actor: str, reason: str, progress: Progress = silent) -> Outcome:
        """
        Put a verified version in place of the live one, once each living replica has it ready.

        Raises: BadInput when the version is not verified, or another promotion came first; FailStep when a replica does
            not get ready, and then nothing has changed.
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
        expected = {"version_id": version_id, "expected_live_version_id": live}
        with self._announced(version_id):
            change = self._change_when_ready(actor, reason, expected, progress)
        if live is None:
            return Outcome(f"Promoted version {version_id}, the first to be live.", change)
        return Outcome(
            f"Promoted version {version_id} in place of {live}; `relevanced rollback` returns to {live}.", change
        )

    def rollback(self, *, actor: str, reason: str) -> Outcome:
        """
        Swap live and previous; said twice, it takes itself back.

        It waits for no replica. Each keeps the previous version loaded, and one that has not yet loads it for the first
        request: late, but right. To wait would leave people with answers that somebody wants gone.

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

    def rollback_to(self, version_id: int, *, actor: str, reason: str) -> Outcome:
        """
        Return to a version that was live at some time and follows the documents; see returning for one that does not.

        Raises: BadInput when it never was live, is live, is not verified, or another change came first.
        """
        live = self.serving().live_version_id
        version = self.require_lived(version_id)
        if version.state != "verified":
            raise BadInput(
                f"Version {version_id} is {version.state}, and only a verified version can be live; "
                f"{_REMEDY[version.state].format(version_id)}"
            )
        expected = {"version_id": version_id, "expected_live_version_id": live}
        change = self._change("rollback", actor, reason, expected, statement="promote_version")
        return Outcome(
            f"Rolled back from version {live} to {version_id}; `relevanced rollback` returns to {live}.", change
        )

    def require_lived(self, version_id: int) -> Version:
        """
        Give a version that there is a way back to.

        Raises: BadInput when it is live, or never was.
        """
        if self.serving().live_version_id == version_id:
            raise BadInput(f"Version {version_id} is live already; nothing was changed.")
        version = history.version(self._database, version_id)
        if not any(row["live_version_id"] == version_id for row in history.serving_history(self._database)):
            raise BadInput(
                f"Version {version_id} was never live, so there is no way back; `relevanced promote {version_id}`."
            )
        return version

    def _change(
        self, verb: Verb, actor: str, reason: str, expected: Mapping[str, Any], statement: str | None = None
    ) -> dict[str, Any]:
        """
        Move the pointer, write the history, retire what is too far back and wake the listeners, all or nothing.

        Args:
            statement: that moves the pointer; None: that of the verb.
        Raises: _NotReady when it promotes and a living replica is not ready.
        """
        with self._database.connection() as connection:
            connection.execute(sql.postgres["lock_serving"])
            if verb == "promote":
                self._require_ready(connection, expected["version_id"])
            row = connection.execute(sql.postgres[statement or f"{verb}_version"], expected).fetchone()
            if row is None:
                raise BadInput(
                    "Another change of the live version came first; nothing was changed. "
                    "`relevanced status` says what is live now."
                )
            noted = {"verb": verb, "actor": actor, "reason": reason, "host": socket.gethostname(), **row}
            connection.execute(sql.postgres["note_serving_change"], noted)
            changes = connection.execute(sql.postgres["serving_history"]).fetchall()
            following = [row["live_version_id"], *fresh_versions(changes, self._retention.fresh)]
            connection.execute(sql.postgres["retire_versions"], {"following": following})
            connection.execute(sql.postgres["tell_serving_change"], row)
        return {"live_version": row["live_version_id"], "previous_version": row["previous_version_id"]}

    @contextmanager
    def _announced(self, version_id: int) -> Iterator[None]:
        """Have the replicas make a version ready while the block runs."""
        # Longer than the patience, so that none lets go of it at the last moment.
        wanted = {"version_id": version_id, "seconds": 2 * self._policy.patience_seconds}
        with self._database.connection() as connection:
            (row,) = connection.execute(sql.postgres["announce"], wanted)
        try:
            yield
        finally:
            with suppress(Retry), self._database.connection() as connection:  # it runs out by itself
                connection.execute(sql.postgres["withdraw_announcement"], row)

    def _change_when_ready(
        self, actor: str, reason: str, expected: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        until = time.monotonic() + self._policy.patience_seconds
        while True:
            try:
                return self._change("promote", actor, reason, expected)
            except _NotReady as waiting:
                if time.monotonic() > until:
                    live = expected["expected_live_version_id"]
                    raise FailStep(
                        f"Version {expected['version_id']} was not promoted: {waiting} after"
                        f" {self._policy.patience_seconds:g} s. "
                        + (f"Version {live} stays live." if live is not None else "No version is live.")
                    ) from None
                progress("Waiting for the replicas", waiting.ready, waiting.living)
            time.sleep(_LOOK_SECONDS)

    def _require_ready(self, connection: psycopg.Connection[DictRow], version_id: int) -> None:
        asked = {"version_id": version_id, "living_seconds": self._policy.silence_seconds}
        replicas = connection.execute(sql.postgres["living_replicas"], asked).fetchall()
        unready = [row for row in replicas if not row["ready"]]
        if unready:
            reasons = [f"{row['process']} ({(row['failure'] or 'it is still loading').rstrip('.')})" for row in unready]
            raise _NotReady(
                f"{len(unready)} of {len(replicas)} replicas did not have it ready, {', '.join(reasons)},",
                ready=len(replicas) - len(unready),
                living=len(replicas),
            )


class _NotReady(Exception):
    """A living replica would have to load the model first; the text says which, and why it has not yet."""

    def __init__(self, sentence: str, *, ready: int, living: int) -> None:
        super().__init__(sentence)
        self.ready, self.living = ready, living


# What brings a version of each state on the way to being live.
_REMEDY: Mapping[str, str] = {
    "candidate": "`relevanced prepare {0}`, then `relevanced verify {0}`.",
    "prepared": "`relevanced verify {0}` first.",
    "rejected": "`relevanced prepare {0}`, then `relevanced verify {0}`, would check it anew.",
    "retired": "it no longer follows the documents; `relevanced rollback --to {0}` builds its index again.",
}
