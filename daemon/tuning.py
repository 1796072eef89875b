"""
The search for a better recipe, on the triplets that a cycle has mined.

In:  triplets.parquet of a cycle, the base model, the present recipe, a budget. Out: an Outcome with all trials; and
where one is better than the present recipe beyond luck, that recipe is kept for later cycles (tuned).
Each trial is the training that a cycle would do, but for a part of the training queries, the same for all, which
measures it. The holdout is not looked at: it has to judge what comes of the recipe.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import tenacity
from optuna.trial import FrozenTrial, Trial, TrialState

from relevanced.daemon.encoder import TransformerEncoder
from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.ports import Progress
from relevanced.daemon.recipe_search import Search, opened_search
from relevanced.daemon.records import Outcome
from relevanced.daemon.resampling import lower_ends
from relevanced.daemon.stages import Stages
from relevanced.daemon.training import KILLED, TrainingJob, train, triplets_sha256
from relevanced.daemon.tuned import Found
from relevanced.daemon.tuning_data import Lesson, lesson_of

SURE: Final = 0.95  # that the recipe which is kept is better, the number of those that were tried included
_ATTEMPTS: Final = 3  # at one trial whose child is killed
_STATES: Final = {TrialState.COMPLETE: "measured", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a search may take in all, what was spent on it before included."""

    trials: int
    seconds: float | None  # None: whatever the trials take


class _Spent(Exception):
    """The seconds are over; the trial under way keeps its checkpoint."""


def tune(stages: Stages, cycle_id: int | None, budget: Budget, now: datetime, progress: Progress) -> Outcome:
    """
    Search for a better recipe, or go on with the search that was killed or stopped.

    Ctrl-C ends it as the end of the budget does: the numbers say so.

    Args:
        cycle_id: whose triplets; None: the newest that has ended with any.
    Raises: BadInput for what cannot be searched, FailStep where the present recipe cannot be trained, Retry where
        training may succeed later.
    """
    lesson = lesson_of(stages, cycle_id)
    found = stages.tuned.found()
    with opened_search(
        stages.tuned.directory, lesson.setup(), lesson.first, found.search if found else None, stages.training.seed
    ) as search:
        stopped = False
        try:
            _Tuner(lesson, search, budget, progress).run()
        except KeyboardInterrupt:
            stopped = True
        return _conclude(stages, lesson, search, budget, now, stopped=stopped)


class _Tuner:
    """A search under way."""

    def __init__(self, lesson: Lesson, search: Search, budget: Budget, progress: Progress) -> None:
        self._lesson, self._search, self._budget, self._progress = lesson, search, budget, progress

    def run(self) -> None:
        """Try one recipe after another until the budget is spent."""
        try:
            while (done := len(self._search.trials)) < self._budget.trials:
                self._heard("Trying recipes", done, self._budget.trials, _so_far(self._search.trials))
                self._try(self._search.begin(self._lesson.first, self._lesson.space))
        except _Spent:
            pass

    def _heard(self, label: str, done: int, total: int, detail: str = "") -> None:
        self._search.clock.note()
        if self._budget.seconds is not None and self._search.clock.seconds >= self._budget.seconds:
            raise _Spent
        self._progress(label, done, total, detail)

    def _try(self, trial: Trial) -> None:
        """Train by one recipe and measure it; one that cannot be trained is no reason to end, but for the first."""
        settings: dict[str, Any] = self._lesson.settings(trial.params)
        job = TrainingJob(
            base=self._lesson.base,
            triplets=self._lesson.file,
            directory=self._search.under_way / "training",
            output=self._search.under_way / "model",
            policy=replace(self._lesson.policy, **settings),
        )

        def validated(share: float, ndcg: float) -> None:
            if self._search.hopeless(trial, share, ndcg):
                raise optuna.TrialPruned

        try:
            self._train(job, validated)
        except optuna.TrialPruned:
            self._search.end(trial, None)
            return
        except (FailStep, Retry) as error:
            passing = isinstance(error, Retry) and not (job.directory / KILLED).exists()
            if passing or trial.number == 0:
                raise
            self._search.end(trial, None, why=str(error))
            return
        if triplets_sha256(job) != self._lesson.sha256:
            raise Retry(
                f"The triplets of cycle {self._lesson.cycle_id} have changed meanwhile, as by `forget`; begin again."
            )
        self._progress("Measuring", 0, 1)
        self._search.end(trial, self._measured(job.output))
        self._progress("Measuring", 1, 1)

    def _train(self, job: TrainingJob, validated: Callable[[float, float], None]) -> None:
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Retry),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_fixed(1),
            reraise=True,
        )
        again(train, job, self._heard, validated)

    def _measured(self, model: Path) -> list[float]:
        """The finished model is measured, since a share of the base's weights comes in at the end."""
        encoder, triplets = TransformerEncoder.load(model, ""), self._lesson.triplets
        return self._lesson.validation.by_query(
            lambda places: encoder.encode_queries([triplets.queries[place] for place in places]),
            lambda places: encoder.encode_documents([triplets.documents[place] for place in places]),
        )


def _conclude(
    stages: Stages, lesson: Lesson, search: Search, budget: Budget, now: datetime, *, stopped: bool
) -> Outcome:
    trials = search.trials
    numbers: dict[str, Any] = {
        "search": search.number,
        "cycle": lesson.cycle_id,
        "stopped": stopped,
        "validation_queries": len(lesson.validation.queries),
        "seconds": round(search.clock.seconds, 1),
        "trials": [_row(trial, lesson) for trial in trials],
    }
    left = len(trials) < budget.trials
    of, goes_on = (f" of {budget.trials}", " The same command with time left goes on.") if left else ("", "")
    tried = f"Search {search.number} has tried {len(trials)}{of} recipes in {search.clock.seconds:,.0f} s"
    measured = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(measured) < 2:
        return Outcome(f"{tried}, and has nothing yet to compare with the present one.{goes_on}", numbers)
    best, gain, low = _best(measured)
    numbers |= {"best": best.number + 1, "gain": gain, "low": low, "kept": low > 0}
    queries = f"{len(lesson.validation.queries):,} validation queries"
    if low <= 0:
        why = f"the best, trial {best.number + 1}, differs by {gain:+.3f} NDCG@10 on {queries}"
        return Outcome(f"{tried}; none is better than the first by more than luck may be: {why}.{goes_on}", numbers)
    found = Found(
        search=search.number,
        trial=best.number + 1,
        cycle_id=lesson.cycle_id,
        settings=lesson.settings(best.params),
        rank=int(lesson.settings(best.params).get("lora_rank", lesson.policy.lora_rank) or 0),
        gain=gain,
        low=low,
        found_at=now.isoformat(timespec="seconds"),
    )
    before = stages.tuned.found()
    if before is None or before.origin != found.origin:
        stages.tuned.keep(found)
    return Outcome(
        f"{tried}; by that of trial {best.number + 1} NDCG@10 rises by {gain:.3f} ({low:.3f} at least) on {queries},"
        f" and the next cycles train by it. `relevanced tune drop` takes it back.{goes_on}",
        numbers,
    )


def _best(measured: Sequence[FrozenTrial]) -> tuple[FrozenTrial, float, float]:
    """Give the best trial after the first, what it gains over that, and how much of it is no luck of having many."""
    ndcg = np.array([trial.user_attrs["ndcg"] for trial in measured]).T
    differences = ndcg[:, 1:] - ndcg[:, :1]
    place = int(differences.mean(axis=0).argmax())
    low = float(lower_ends(differences, SURE)[place])
    return measured[1 + place], float(differences[:, place].mean()), low


def _row(trial: FrozenTrial, lesson: Lesson) -> dict[str, Any]:
    return {
        "trial": trial.number + 1,
        "state": _STATES[trial.state],
        "ndcg": trial.value if trial.state == TrialState.COMPLETE else None,
        "seconds": trial.user_attrs["seconds"],
        "settings": lesson.settings(trial.params),
        "why": trial.user_attrs.get("why"),
    }


def _so_far(trials: Sequence[FrozenTrial]) -> str:
    values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return f"NDCG@10 {values[0]:.3f} at first, {max(values):.3f} at best" if values else ""
