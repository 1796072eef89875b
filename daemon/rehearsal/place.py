"""
How far a rehearsal is: rehearsal.json in its state directory.

In:  the options of the rehearsal. Out: what is done already; a rehearsal with the same options goes on from there.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import write_text
from relevanced.daemon.rehearsal.shown import Exposure


def require_own(home: Path) -> None:
    """
    Make sure that a rehearsal may have this state directory.

    Raises: BadInput when it serves another purpose.
    """
    used = any((home / name).exists() for name in ("postgres", "versions", "lake", "spool"))
    if used and not (home / "rehearsal.json").exists():
        raise BadInput(f"{home} is in use, and a rehearsal needs a state directory of its own; give another --home.")


class Place:
    """The notes of one rehearsal, on disk after each change."""

    def __init__(self, home: Path, options: Mapping[str, Any]) -> None:
        """
        Begin, or go on with, the rehearsal of these options.

        Raises: BadInput when the state directory holds something else.
        """
        self._file = home / "rehearsal.json"
        self._notes: dict[str, Any] = {"options": dict(options), "cycles": {}, "seconds": {}}
        if self._file.exists():
            self._notes = json.loads(self._file.read_text(encoding="utf-8"))
            if self._notes["options"] != json.loads(json.dumps(options)):
                raise BadInput(f"{home} holds a rehearsal with other options; give another --home, or delete it.")
        else:
            require_own(home)
            home.mkdir(parents=True, exist_ok=True)
            self._write()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by step, over all runs of this rehearsal."""
        return {step: round(seconds, 3) for step, seconds in self._notes["seconds"].items()}

    def add_seconds(self, step: str, seconds: float) -> None:
        """Count time for a step."""
        self._notes["seconds"][step] = self._notes["seconds"].get(step, 0.0) + seconds
        self._write()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the time that the block takes, also when it is interrupted."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add_seconds(step, time.monotonic() - began)

    def sessions_done(self, cycle: int) -> int:
        """How many sessions of a cycle are in the log store."""
        return int(self._of_cycle(cycle).get("sessions", 0))

    def exposure(self, cycle: int) -> Exposure:
        """What the sessions that are done were shown."""
        return Exposure(**self._of_cycle(cycle).get("exposure", {}))

    def live(self, cycle: int) -> int | None:
        """The version that was live when the cycle ended; None before."""
        return self._of_cycle(cycle).get("live")

    def has_arrived(self, cycle: int) -> bool:
        """Whether the documents that come with a cycle are there."""
        return bool(self._of_cycle(cycle).get("arrived", False))

    def note(self, cycle: int, **facts: Any) -> None:
        """Keep facts of a cycle, all or none: arrived, sessions, exposure, live."""
        self._notes["cycles"].setdefault(str(cycle), {}).update(facts)
        self._write()

    def _of_cycle(self, cycle: int) -> dict[str, Any]:
        return dict(self._notes["cycles"].get(str(cycle), {}))

    def _write(self) -> None:
        write_text(self._file, json.dumps(self._notes, indent=2))
