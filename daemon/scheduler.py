"""
When a cycle begins by itself, and what goes on between cycles.

In:  the clock, the cycles so far, the log. Out: cycles begun and run; kept versions that follow the outbox; a log in
few files; documents that are as the operator's own table has them.
What is due is worked out from the rows of past cycles, so a restart forgets nothing, a run that was missed is made up
once, and however many reasons there are, one cycle answers them all.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from relevanced.daemon.attaching import refresh_if_due
from relevanced.daemon.clock import Clock
from relevanced.daemon.config import SchedulePolicy
from relevanced.daemon.cycle import begin_cycle, last_cycle, open_cycle
from relevanced.daemon.errors import BadInput, FailStep, Interrupted, Retry
from relevanced.daemon.following import follow
from relevanced.daemon.records import Cycle
from relevanced.daemon.retention import retain
from relevanced.daemon.stages import Stages
from relevanced.daemon.threads import Threads
from relevanced.daemon.tryout import check_trial
from relevanced.daemon.upkeep import keep_up

CHECK_SECONDS: Final = 20  # between two looks at whether a cycle is due
TRIAL_SECONDS: Final = 600  # between two looks at the trial, which read the whole log; how often changes no verdict
FOLLOW_SECONDS: Final = 2  # between two looks at the outbox: how old an answer may be

log = structlog.get_logger()


def why_due(
    policy: SchedulePolicy, now: datetime, since: datetime, judged_queries: int, clicked_queries: int
) -> str | None:
    """
    Say why a cycle is due, or None.

    Args:
        since: when the last cycle began, or when the daemon first looked: cron times after it count.
        judged_queries, clicked_queries: what the last cycle knew, and what the log holds now.
    """
    trigger = CronTrigger.from_crontab(policy.cron, timezone="UTC")
    fire_time = trigger.get_next_fire_time(None, since)
    if fire_time is not None and since < fire_time <= now:
        return "cron"
    if clicked_queries - judged_queries >= policy.new_queries:
        return f"{clicked_queries - judged_queries} new queries"
    return None


class Scheduler:
    """Runs a cycle when one is due, and keeps the versions fresh, until the threads that it belongs to are stopped."""

    def __init__(
        self, stages: Stages, policy: SchedulePolicy, clock: Clock, run: Callable[[Cycle], Cycle], threads: Threads
    ) -> None:
        self._stages, self._policy, self._clock, self._run, self._threads = stages, policy, clock, run, threads
        self._first_look = clock.now()

    def run(self) -> None:
        """Look every few seconds, until all is stopped."""
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it warns whenever a look falls into a long cycle
        jobs = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
        jobs.add_job(self.check, "interval", seconds=CHECK_SECONDS, next_run_time=datetime.now().astimezone())
        jobs.add_job(self.follow, "interval", seconds=FOLLOW_SECONDS)
        jobs.add_job(self.refresh, "interval", seconds=self._policy.refresh_seconds)
        jobs.add_job(self.check_trial, "interval", seconds=TRIAL_SECONDS)
        jobs.add_job(
            self.refresh,
            CronTrigger.from_crontab(self._policy.upkeep_cron, timezone="UTC"),
            kwargs={"nightly": True},
        )
        jobs.add_job(self.keep_up, CronTrigger.from_crontab(self._policy.upkeep_cron, timezone="UTC"))
        jobs.start()
        self._threads.stop.wait()
        jobs.shutdown(wait=True)

    def check(self) -> None:
        """Go on with the cycle that is open, or begin one if it is due."""
        try:
            cycle = open_cycle(self._stages.database)
            if cycle is None:
                reason = self._why_due()
                if reason is None:
                    return
                cycle = begin_cycle(self._stages.database, reason)
            self._run(cycle)
        except Interrupted:
            log.info("cycle interrupted; the next start goes on with it")
        except (BadInput, Retry) as error:  # another process runs the cycle, or Postgres is away: look again later
            log.warning("cycle waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - APScheduler would only log it
            self._threads.fail("scheduler", error)

    def follow(self) -> None:
        """Bring every version that is kept up to date with the documents."""
        try:
            follow(self._stages)
        except (FailStep, Retry) as error:
            log.warning("index waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._threads.fail("scheduler", error)

    def refresh(self, *, nightly: bool = False) -> None:
        """Take over what triggers on the operator's own table could not see; nightly, look even where none failed."""
        try:
            outcome = refresh_if_due(self._stages.database, anyway=nightly)
            if outcome is not None:
                log.info(outcome.sentence)
        except (BadInput, Retry) as error:
            log.warning("documents wait", reason=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._threads.fail("scheduler", error)

    def check_trial(self) -> None:
        """Act on what people prefer."""
        try:
            outcome = check_trial(self._stages, self._clock.now())
            if outcome is not None:
                log.info(outcome.sentence)
        except (BadInput, FailStep, Retry) as error:
            log.warning("trial waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._threads.fail("scheduler", error)

    def keep_up(self) -> None:
        """Write the log into few files, without what is too old, and drop the indexes of old versions."""
        try:
            stages = self._stages
            outcome = keep_up(stages.database, stages.log_store, stages.privacy, self._clock.now(), lambda *_: None)
            log.info(outcome.sentence)
        except (BadInput, Retry) as error:
            log.warning("upkeep of the log waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._threads.fail("scheduler", error)
        try:
            log.info(retain(self._stages.database, self._stages.models, self._stages.retention).sentence)
        except (BadInput, Retry) as error:
            log.warning("retention waits", reason=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._threads.fail("scheduler", error)

    def _why_due(self) -> str | None:
        if self._stages.promotion.serving().live_version_id is None:
            return None
        last = last_cycle(self._stages.database)
        since, judged = (last.started_at, last.judged_queries or 0) if last else (self._first_look, 0)
        snapshot = self._stages.log_store.snapshot()
        clicked = self._stages.log_store.read("clicked_queries", snapshot)["clicked_queries"][0].as_py()
        return why_due(self._policy, self._clock.now(), since, judged, clicked)
