"""
The traffic of one cycle: searchers search and click, and what they did reaches the log store.

In:  searchers, the real search path, a source. Out: records in the log store, and what was shown (shown.Exposure).
Each handful of sessions is in the log store before the next begins, and noted, so that a stop costs none twice.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Final

from relevanced.daemon.consuming import consume_records
from relevanced.daemon.ports import EventSource, Progress
from relevanced.daemon.records import SearchAnswer, SearchRequest
from relevanced.daemon.rehearsal.place import Place
from relevanced.daemon.rehearsal.searchers import Searchers, Session
from relevanced.daemon.rehearsal.shown import Shown
from relevanced.daemon.rehearsal.spammers import Clicked
from relevanced.daemon.wiring import Parts

SESSIONS_AT_ONCE: Final = 500  # searched, clicked and stored before the next ones


class Traffic:
    """What goes on between two cycles."""

    def __init__(self, parts: Parts, searchers: Searchers, source: EventSource, place: Place) -> None:
        """Take the source that the records travel through; who opened it closes it."""
        self._parts, self._searchers, self._source, self._place = parts, searchers, source, place

    def run(self, number: int, sessions: Sequence[Session], shown: Shown, progress: Progress) -> int:
        """Do what is left of the sessions of a cycle (from 0); return how many clicks that made."""
        self._source.seek(self._parts.log_store.offsets(self._source.name))
        done, exposure, clicks = self._place.sessions_done(number), self._place.exposure(number), 0
        while some := list(islice(sessions, done, done + SESSIONS_AT_ONCE)):
            records, searched, answers = self._act(some, number)
            self._parts.sink.write(records)
            consume_records(self._source, self._parts.log_store, len(searched) + len(records))
            exposure = exposure.plus(shown.measure(searched, answers))
            clicks += len(records)
            done += len(some)
            self._place.note(number, sessions=done, exposure=asdict(exposure))
            progress(f"Searchers of cycle {number + 1}", done, len(sessions))
        return clicks

    def _act(self, sessions: Sequence[Session], number: int) -> tuple[Clicked, list[Session], list[SearchAnswer]]:
        """Let some search and click, and search again; give all clicks, and every search with its answer."""
        answers = self._search(sessions)
        clicks = self._click(sessions, answers)
        unanswered = (session for session, some in zip(sessions, clicks, strict=True) if not some)
        others = [other for session in unanswered if (other := self._searchers.again(session, number)) is not None]
        searched, answers = [*sessions, *others], [*answers, *(more := self._search(others))]
        clicks = self._searchers.flood(searched, [*clicks, *self._click(others, more)])
        return [click for some in clicks for click in some], searched, answers

    def _click(self, sessions: Sequence[Session], answers: Sequence[SearchAnswer]) -> list[Clicked]:
        return [self._searchers.click(session, answer) for session, answer in zip(sessions, answers, strict=True)]

    def _search(self, sessions: Sequence[Session]) -> list[SearchAnswer]:
        return self._parts.search.search(
            [
                SearchRequest(
                    user_query=session.user_query,
                    client_id=session.client_id,
                    session_id=session.session_id,
                    application="rehearsal",
                    timestamp=session.timestamp,
                )
                for session in sessions
            ]
        )
