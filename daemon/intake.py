"""
Intake: what the doors hand in is on disk before anybody is told so, as long as the disk has room for others too.

In:  UBI records from any number of threads. Out: the spool, one fsync for all who waited; read by consumers.spool.
It asks neither Postgres nor a broker, so the doors stay open while those are away.
"""

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from annotated_types import Ge

from relevanced.daemon.errors import Retry
from relevanced.daemon.lists import Texts
from relevanced.daemon.ports import ClosableSink

_MB: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakePolicy:
    """When the doors take events, and from whose pages."""

    min_free_mb: Annotated[int, Ge(0)] = 1000  # MB free on the spool's disk; the rest is for Postgres and the log
    allowed_origins: Texts = ()  # whose pages may report from a browser, beside the server's own


@dataclass(slots=True)
class _Share:
    """What one thread hands in, and what became of it."""

    records: Sequence[Mapping[str, Any]]
    is_settled: bool = False
    failure: Exception | None = field(default=None)


class Intake:
    """A RecordSink with group commit: whoever waits for the disk is written together with all others that wait."""

    def __init__(self, sink: ClosableSink, directory: Path, policy: IntakePolicy) -> None:
        """Take a sink that writes below `directory`."""
        self._sink, self._directory, self._policy = sink, directory, policy
        self._turn = threading.Lock()  # of the one who writes
        self._gate = threading.Lock()  # around the list of those who wait
        self._waiting: list[_Share] = []

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """
        Return once the records are on disk.

        Raises: Retry when they are not; some may be there all the same, and a reader of the log takes each once.
        """
        if not records:
            return
        share = _Share(records)
        with self._gate:
            self._waiting.append(share)
        with self._turn:
            if not share.is_settled:
                self._settle()
        if share.failure is not None:
            raise share.failure

    def close(self) -> None:
        """Say that nothing more comes."""
        self._sink.close()

    def _settle(self) -> None:
        with self._gate:
            shares, self._waiting = self._waiting, []
        failure: Exception | None = None
        try:
            self._require_room()
            self._sink.write([record for share in shares for record in share.records])
        except Exception as error:  # noqa: BLE001 - each of those who wait hears of it
            failure = error
        for share in shares:
            share.failure, share.is_settled = failure, True

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._directory).free // _MB
        if free < self._policy.min_free_mb:
            raise Retry(
                f"The disk of {self._directory} has {free:,} MB left, and [intake] min_free_mb keeps"
                f" {self._policy.min_free_mb:,} MB free; make room."
            )
