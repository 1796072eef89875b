from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.config import SchedulePolicy
from relevanced.daemon.scheduler import why_due

NIGHTLY = SchedulePolicy(cron="0 3 * * *", new_queries=500)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def at(hours: float) -> datetime:
    return MONDAY + timedelta(hours=hours)


def test_nothing_is_due_before_the_hour_of_the_cron() -> None:
    assert why_due(NIGHTLY, now=at(2.9), since=at(0), judged_queries=0, clicked_queries=0) is None


def test_the_cron_is_due_at_its_hour() -> None:
    assert why_due(NIGHTLY, now=at(3), since=at(0), judged_queries=0, clicked_queries=0) == "cron"


def test_a_run_that_was_missed_for_a_week_is_made_up_once() -> None:
    assert why_due(NIGHTLY, now=at(24 * 7), since=at(0), judged_queries=0, clicked_queries=0) == "cron"
    assert why_due(NIGHTLY, now=at(24 * 7 + 1), since=at(24 * 7), judged_queries=0, clicked_queries=0) is None


def test_enough_newly_clicked_queries_are_a_reason_of_their_own() -> None:
    assert why_due(NIGHTLY, now=at(1), since=at(0), judged_queries=200, clicked_queries=699) is None
    reason = why_due(NIGHTLY, now=at(1), since=at(0), judged_queries=200, clicked_queries=700)
    assert reason == "500 new queries"


@given(began=st.floats(0, 1000), later=st.floats(0, 1000))
def test_a_cycle_that_has_just_begun_answers_every_earlier_reason(began: float, later: float) -> None:
    """However long ago the last one was: after it begins, the next cron time is ahead of it."""
    begun = at(began + later)
    assert why_due(NIGHTLY, now=begun, since=begun, judged_queries=900, clicked_queries=900) is None
