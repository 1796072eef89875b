"""
A replica: one of any number of processes that search, as the others see it.

In:  the pointer, and the versions that somebody is about to promote. Out: a row that says about once a second that this
process lives, which versions it has ready, and what keeps it from loading others; promotion waits for what it says.
Models are loaded by a thread of their own, so that neither the beat nor a request waits for one. Replicas only poll:
behind a PgBouncer that pools transactions a LISTEN is lost, and a second of a promotion is not worth a session.
"""

import os
import socket
import time
from threading import Event, Lock
from typing import Any, Final
from uuid import uuid4

import psycopg
import structlog
from psycopg.types.json import Jsonb

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import RelevancedError
from relevanced.daemon.promotion import Promotion, PromotionPolicy
from relevanced.daemon.search import Search

_BEATS: Final = 5  # within the silence after which it is taken for dead
_TRY_AGAIN_SECONDS: Final = 2.0  # after a model could not be loaded; somebody may have put its files back

log = structlog.get_logger(__name__)


class Replica:
    """Says what this process can answer with, and gets ready what it shall."""

    def __init__(self, database: Database, promotion: Promotion, search: Search, policy: PromotionPolicy) -> None:
        self._database, self._promotion, self._search = database, promotion, search
        self._beat_seconds = policy.silence_seconds / _BEATS
        self._name = {"replica_id": uuid4(), "process": f"{socket.gethostname()}:{os.getpid()}"}
        self._changing = Lock()  # of the three below, between the beat and the loading
        self._wanted: tuple[int, ...] = ()
        self._ready: set[int] = set()
        self._failures: dict[int, str] = {}
        self._something_to_load, self._something_to_say = Event(), Event()

    def keep_beating(self, stop: Event) -> None:
        """Beat until `stop` is set, then say goodbye."""
        is_heard = True
        while not stop.is_set():
            try:
                self.beat()
                is_heard = True
            except (RelevancedError, psycopg.Error) as error:  # a server that takes no rows may still answer searches
                if is_heard:
                    log.warning("The replica cannot say that it lives.", reason=str(error))
                is_heard = False
            self._something_to_say.wait(self._beat_seconds)
            self._something_to_say.clear()
        self._something_to_load.set()
        self.leave()

    def keep_loading(self, stop: Event) -> None:
        """Load what is wanted until `stop` is set, one version after another."""
        while not stop.is_set():
            if not self.load_next():
                self._something_to_load.wait(_TRY_AGAIN_SECONDS)
            self._something_to_load.clear()

    def beat(self) -> None:
        """
        Look at what is wanted, let go of what is not, and say what is ready.

        Raises: Retry when Postgres is away, StopDaemon when its disk is full.
        """
        with self._database.connection() as connection:
            announced = [row["version_id"] for row in connection.execute(sql.postgres["announced_versions"])]
        # The pointer is read after: what is promoted between the two would be wanted by neither.
        serving = self._promotion.serving()
        # What answers comes first, then what somebody waits for; the version before is for a rollback.
        order = (serving.live_version_id, *announced, serving.other_version_id, serving.previous_version_id)
        self._want(tuple(dict.fromkeys(number for number in order if number is not None)))
        with self._database.connection() as connection:
            connection.execute(sql.postgres["beat"], self._row(serving.live_version_id))
            connection.execute(sql.postgres["forget_dead_replicas"])

    def load_next(self) -> bool:
        """Make the next version ready that is wanted; whether there was one that could be."""
        with self._changing:
            missing = [version_id for version_id in self._wanted if version_id not in self._ready]
        return any(self._load(version_id) for version_id in missing)

    def leave(self) -> None:
        """Take the row away: a process that ends in order is waited for by nobody."""
        try:
            with self._database.connection() as connection:
                connection.execute(sql.postgres["forget_replica"], self._name)
        except (RelevancedError, psycopg.Error):
            log.info("The replica cannot say goodbye; it will be taken for dead.")

    def _load(self, version_id: int) -> bool:
        began, failure = time.monotonic(), ""
        try:
            self._search.warm(version_id)
        except Exception as error:  # noqa: BLE001 - files can be broken in many ways, and whoever waits hears which
            failure = str(error) or type(error).__name__
        with self._changing:
            known = self._failures.pop(version_id, None)
            if failure:
                self._failures[version_id] = failure
            elif version_id in self._wanted:
                self._ready.add(version_id)
        self._something_to_say.set()
        if not failure:
            log.info("A version is ready.", version=version_id, seconds=round(time.monotonic() - began, 1))
        elif failure != known:
            log.warning("A version cannot be loaded.", version=version_id, reason=failure)
        return not failure

    def _want(self, version_ids: tuple[int, ...]) -> None:
        with self._changing:
            self._search.hold(version_ids)
            is_new = not set(version_ids) <= set(self._wanted)
            self._wanted = version_ids
            self._ready.intersection_update(version_ids)
            self._failures = {number: why for number, why in self._failures.items() if number in version_ids}
        if is_new:
            self._something_to_load.set()

    def _row(self, live_version_id: int | None) -> dict[str, Any]:
        with self._changing:
            return {
                **self._name,
                "answering": live_version_id,
                "ready": sorted(self._ready),
                "failures": Jsonb({str(number): why for number, why in self._failures.items()}),
            }
