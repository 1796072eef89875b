"""
Our own records when their way is closed: to the spool, which the same daemon reads.

In:  UBI records. Out: the same records with the broker, or on disk until a consumer takes them; nobody waits for long.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

import structlog

from relevanced.daemon.errors import RelevancedError
from relevanced.daemon.ports import ClosableSink

AWAY_SECONDS: Final = 30.0  # in which a broker that failed is asked nothing; each question costs some seconds

_logger: Final = structlog.get_logger(__name__)


class FallbackSink:
    """Writes to a first sink, and to a second one while the first cannot; safe to share between threads."""

    def __init__(self, open_first: Callable[[], ClosableSink], second: ClosableSink) -> None:
        """
        Args:
            open_first: makes the first sink, when it is needed; it may fail, and is then tried again.
        """
        self._open_first, self._second = open_first, second
        self._first: ClosableSink | None = None
        self._turn = threading.Lock()
        self._again_at = 0.0  # by the monotonic clock

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """
        Return once the records are with either; some may be with both, and a reader of the log takes each once.

        Raises: Retry when neither took them.
        """
        if (first := self._in_use()) is not None:
            try:
                first.write(records)
                self._again_at = 0.0
                return
            except RelevancedError as error:
                self._note(error)
        self._second.write(records)

    def close(self) -> None:
        """Close both."""
        if self._first is not None:
            self._first.close()
        self._second.close()

    def _in_use(self) -> ClosableSink | None:
        """The first sink, unless it has failed a moment ago; after that one caller tries it, and no other waits."""
        if monotonic() < self._again_at:
            return None
        with self._turn:
            if self._again_at:
                if monotonic() < self._again_at:
                    return None
                self._again_at = monotonic() + AWAY_SECONDS
            if self._first is None:
                try:
                    self._first = self._open_first()
                except RelevancedError as error:
                    self._note(error)
        return self._first

    def _note(self, error: RelevancedError) -> None:
        self._again_at = monotonic() + AWAY_SECONDS
        _logger.warning("Our own records go to the spool meanwhile.", reason=str(error), seconds=AWAY_SECONDS)
