"""
The cycle: a row in Postgres that moves through the steps of states.MOVES.

In:  the steps as functions (steps.py), and who began the cycle. Out: rows in cycle and cycle_step, one sentence a step.
A step that was killed is begun again: each is idempotent. The lease keeps a second daemon away, and its token keeps one
that was frozen from ending a step that another has ended since.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import structlog
import tenacity
from psycopg.types.json import Jsonb

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, FailStep, Interrupted, Retry
from relevanced.daemon.lease import Lease, leased
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Cycle, Outcome, Step
from relevanced.daemon.states import next_step

T = TypeVar("T")
StepFunction = Callable[[Cycle, Progress], Outcome]

LEASE_SECONDS = 30  # a daemon that is gone for longer loses the cycle; renewed at a third of it
WAITED_SECONDS = 600  # in all that a step waits to try again; past it the process ends, and the next one goes on
LISTEN_SECONDS = 0.5  # between two looks, while waiting, at whether to stop
PROGRESS_SECONDS = 1.0  # between two writes of the progress to the step's row

log = structlog.get_logger()


def begin_cycle(database: Database, trigger: str) -> Cycle:
    """Begin a cycle, or give the one that is open: a daemon that was killed goes on with it."""
    with database.connection() as connection:
        connection.execute(sql.postgres["begin_cycle"], {"trigger": trigger})
        row = connection.execute(sql.postgres["open_cycle"]).fetchone()
    if row is None:
        raise Retry("The open cycle ended just now; begin another.")
    return _cycle(row)


def open_cycle(database: Database) -> Cycle | None:
    """The cycle that has not ended, if any."""
    with database.connection() as connection:
        row = connection.execute(sql.postgres["open_cycle"]).fetchone()
    return _cycle(row) if row else None


def last_cycle(database: Database) -> Cycle | None:
    """The youngest cycle that has ended, if any."""
    with database.connection() as connection:
        row = connection.execute(sql.postgres["last_cycle"]).fetchone()
    return _cycle(row) if row else None


def cycle_of(database: Database, cycle_id: int) -> Cycle:
    """The cycle of this number."""
    with database.connection() as connection:
        row = connection.execute(sql.postgres["cycle"], {"cycle_id": cycle_id}).fetchone()
    if row is None:
        raise BadInput(f"There is no cycle {cycle_id}; `relevanced status` shows the last.")
    return _cycle(row)


def run_cycle(
    database: Database,
    cycle: Cycle,
    steps: Mapping[Step, StepFunction],
    *,
    max_attempts: int,
    progress: Progress,
    tell: Callable[[Step, Outcome, float], None],
) -> Cycle:
    """
    Do the steps that are left.

    Args:
        max_attempts: of one step; a step begun more often has killed its process each time, and fails.
        tell: hears each step's outcome and its seconds.
    Raises: BadInput while another process runs the cycle; StopDaemon when the lease was lost on the way.
    """
    busy = BadInput("Another process is running the cycle; `relevanced status` shows how far it is.")
    with leased(database, "cycle", seconds=LEASE_SECONDS, busy=busy) as lease:
        while cycle.step != "ended":
            began = time.monotonic()
            outcome = _patiently(partial(_do, database, cycle, steps[cycle.step], max_attempts, progress), progress)
            tell(cycle.step, outcome, time.monotonic() - began)
            cycle = _patiently(partial(_end_step, database, cycle, outcome, lease), progress)
    return cycle


def _patiently(work: Callable[[], T], progress: Progress) -> T:
    """Repeat what may succeed later, for as long as a restart of Postgres takes and then some; progress may end it."""

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            progress("Waiting to try again", 0, 1)
            time.sleep(min(left, LISTEN_SECONDS))

    def say(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None  # it is asked after a failure
        log.warning("The cycle waits to try again.", reason=str(state.outcome.exception()))

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Retry),
        wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=15.0),
        stop=lambda state: state.idle_for >= WAITED_SECONDS,  # the work itself may take hours
        sleep=wait,
        before_sleep=say,
        reraise=True,
    )(work)


def _do(database: Database, cycle: Cycle, work: StepFunction, max_attempts: int, progress: Progress) -> Outcome:
    row = {"cycle_id": cycle.cycle_id, "step": cycle.step}
    with database.connection() as connection:
        begun = connection.execute(sql.postgres["begin_step"], row).fetchone()
    assert begun is not None  # the statement returns a row whether it inserts or updates
    if begun["attempts"] > max_attempts:
        sentence = f"The step {cycle.step} was begun {max_attempts} times and never ended; the log says where."
        return Outcome(sentence, verdict="failed")
    try:
        return work(cycle, _Both(progress, _StepProgress(database, row)))
    except (FailStep, BadInput) as error:  # nobody is there to give better input; the live version stays
        return Outcome(str(error), verdict="failed")
    except (OSError, pa.ArrowException) as error:  # a full disk, or a file of the cycle that was removed
        return Outcome(f"The step {cycle.step} could not go on: {error}", verdict="failed")
    except (Interrupted, KeyboardInterrupt, Retry):  # it was asked to stop, or to wait: not a fault of the step
        with suppress(Retry), database.connection() as connection:
            connection.execute(sql.postgres["take_back_attempt"], row)
        raise


def _end_step(database: Database, cycle: Cycle, outcome: Outcome, lease: Lease) -> Cycle:
    following = next_step(cycle.step, outcome.verdict)
    row = {
        "cycle_id": cycle.cycle_id,
        "step": cycle.step,
        "next_step": following,
        "verdict": outcome.verdict,
        "sentence": outcome.sentence,
        "numbers": Jsonb(dict(outcome.numbers)),
    }
    with database.connection() as connection:
        lease.check(connection)
        connection.execute(sql.postgres["end_step"], row)
        connection.execute(sql.postgres["move_cycle"], row)
        if outcome.verdict == "failed":
            connection.execute(sql.postgres["reject_candidate"], row)
        moved = connection.execute(sql.postgres["cycle"], row).fetchone()
    assert moved is not None  # the cycle's row is never deleted
    return _cycle(moved)


class _StepProgress:
    """Writes how far a step is to its row, about once a second."""

    def __init__(self, database: Database, row: Mapping[str, Any]) -> None:
        self._database, self._row, self._written = database, row, 0.0

    def __call__(self, label: str, done: int, total: int, detail: str = "") -> None:
        if done < total and time.monotonic() - self._written < PROGRESS_SECONDS:
            return
        self._written = time.monotonic()
        progress = Jsonb({"label": label, "done": done, "total": total, "detail": detail})
        with suppress(Retry), self._database.connection() as connection:  # who watches can wait; the work goes on
            connection.execute(sql.postgres["note_progress"], {**self._row, "progress": progress})


class _Both:
    """Tells two listeners."""

    def __init__(self, first: Progress, second: Progress) -> None:
        self._first, self._second = first, second

    def __call__(self, label: str, done: int, total: int, detail: str = "") -> None:
        self._first(label, done, total, detail)
        self._second(label, done, total, detail)


def _cycle(row: Mapping[str, Any]) -> Cycle:
    return Cycle(**{name: row[name] for name in Cycle.__dataclass_fields__})
