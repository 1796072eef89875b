"""How a cycle moves: what a step's end, its failure, a stop and a wait do to its rows."""

from collections.abc import Callable

import pytest

from relevanced.daemon import history
from relevanced.daemon.cycle import begin_cycle, cycle_of, run_cycle
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, FailStep, Interrupted, Retry
from relevanced.daemon.lease import Lease
from relevanced.daemon.ports import Progress, silent
from relevanced.daemon.records import Cycle, Outcome

Work = Callable[[Cycle, Progress], Outcome]
NOTHING = Outcome("Nothing was clicked.", {"triplets": 0}, "nothing")


def run(database: Database, cycle: Cycle, mine: Work, max_attempts: int = 3) -> Cycle:
    told: list[str] = []

    def tell(_step: str, outcome: Outcome, _seconds: float) -> None:
        told.append(outcome.sentence)

    ended = run_cycle(database, cycle, {"mine": mine}, max_attempts=max_attempts, progress=silent, tell=tell)
    assert [row["sentence"] for row in history.steps(database, cycle.cycle_id)] == told
    return ended


def raising(*errors: BaseException, then: Outcome = NOTHING) -> Work:
    """Work that raises each error once, and then succeeds."""
    left = list(errors)

    def work(_cycle: Cycle, progress: Progress) -> Outcome:
        progress("Mining", 0, 1)
        if left:
            raise left.pop(0)
        return then

    return work


def attempts(database: Database, cycle: Cycle) -> int:
    (row,) = history.steps(database, cycle.cycle_id)
    return int(row["attempts"])


@pytest.fixture
def cycle(database: Database) -> Cycle:
    return begin_cycle(database, "test")


def test_a_cycle_ends_with_the_sentence_of_its_last_step(database: Database, cycle: Cycle) -> None:
    ended = run(database, cycle, raising())
    assert (ended.step, ended.sentence, ended.ended_at is not None) == ("ended", "Nothing was clicked.", True)


def test_there_is_one_open_cycle_however_often_one_is_begun(database: Database, cycle: Cycle) -> None:
    assert begin_cycle(database, "another") == cycle


@pytest.mark.parametrize("error", [FailStep("It cannot."), BadInput("It cannot."), OSError("No space left on device")])
def test_a_step_that_fails_ends_the_cycle_and_says_why(database: Database, cycle: Cycle, error: Exception) -> None:
    assert str(error) in (run(database, cycle, raising(error)).sentence or "")
    assert history.steps(database, cycle.cycle_id)[0]["verdict"] == "failed"


def test_what_may_succeed_later_is_repeated_and_counts_as_one_attempt(database: Database, cycle: Cycle) -> None:
    run(database, cycle, raising(Retry("Postgres is away."), Retry("Still.")))
    assert attempts(database, cycle) == 1


def test_a_wait_hears_the_stop(database: Database, cycle: Cycle) -> None:
    def stopping(label: str, _done: int, _total: int, _detail: str = "") -> None:
        if label == "Waiting to try again":
            raise Interrupted("Asked to stop.")

    always_away = raising(*[Retry("Postgres is away.")] * 100)
    with pytest.raises(Interrupted):
        run_cycle(database, cycle, {"mine": always_away}, max_attempts=3, progress=stopping, tell=lambda *_: None)
    assert cycle_of(database, cycle.cycle_id).ended_at is None


def test_what_does_not_succeed_in_time_is_given_up(
    database: Database, cycle: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relevanced.daemon.cycle.WAITED_SECONDS", 0.0)
    with pytest.raises(Retry, match="Postgres is away"):
        run(database, cycle, raising(*[Retry("Postgres is away.")] * 2))


@pytest.mark.parametrize("stop", [Interrupted("Asked to stop."), KeyboardInterrupt()])
def test_a_stop_leaves_the_cycle_open_and_counts_for_nothing(
    database: Database, cycle: Cycle, stop: BaseException
) -> None:
    for _ in range(5):
        with pytest.raises(type(stop)):
            run_cycle(database, cycle, {"mine": raising(stop)}, max_attempts=3, progress=silent, tell=lambda *_: None)
    assert cycle_of(database, cycle.cycle_id).ended_at is None
    run(database, cycle, raising())
    assert attempts(database, cycle) == 1


def test_a_step_that_kills_its_process_each_time_fails_at_last(database: Database, cycle: Cycle) -> None:
    """An error that nobody treats leaves the step's row as a kill does: begun, and not ended."""
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run_cycle(
                database,
                cycle,
                {"mine": raising(ZeroDivisionError())},
                max_attempts=3,
                progress=silent,
                tell=lambda *_: None,
            )
    assert "was begun 3 times and never ended" in (run(database, cycle, raising()).sentence or "")


def test_nobody_runs_a_cycle_that_another_runs(database: Database, cycle: Cycle) -> None:
    lease = Lease.acquire(database, "cycle", seconds=60)
    assert lease is not None
    with pytest.raises(BadInput, match="Another process is running the cycle"):
        run(database, cycle, raising())
    lease.release()
    assert run(database, cycle, raising()).step == "ended"
