"""The time, as a part that is given: the daemon gets the system's, a test one that it moves by hand."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is: SystemClock, and ManualClock in the tests."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)
