"""
A search for a better recipe, as it is kept: its set-up, its trials and what was spent, all of it safe from kill -9.

In:  what makes a search the same. Out: the study, in which a trial that was killed is still open; read by tuning.
The study is a SQLite file, whose commits are whole or not there. Optuna's journal is not: a line that was cut off makes
all behind it unreadable, and a lock that was left behind holds up the next start for half a minute.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import write_text
from relevanced.daemon.recipe_space import Choice, Point, Space

_SETUP: Final = "setup.json"
_STUDY: Final = "study.db"
_SPENT: Final = "spent"
_BEGAN: Final = "began"  # seconds of the search at which a trial began, among its attributes
_UNDER_WAY: Final = "trial"  # the directory of the trial that is being trained
_NOTE_SECONDS: Final = 2.0  # between two notes of what was spent; a kill forgets no more
_ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# Trials that are drawn at random before the estimator is asked, and that end before one may be stopped early.
_AT_RANDOM: Final = 5
_SEEDS: Final = 10_000  # more than a search has trials
_PERCENT: Final = 100
_HALF: Final = 50  # percent of a training before which its curve tells too little of its end: the rate has yet to fall


class Search:
    """One search: a directory, a study in it, and the seconds that it has taken."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.number = int(directory.name)
        self.under_way = directory / _UNDER_WAY
        self._seed = seed
        self.clock = Clock(directory / _SPENT)
        self._study = optuna.create_study(
            storage=f"sqlite:///{directory / _STUDY}",
            study_name="recipes",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_AT_RANDOM, n_warmup_steps=_HALF),
            load_if_exists=True,
        )

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that have ended, the first of them that of the recipe at the beginning."""
        return self._study.get_trials(states=_ENDED)

    def begin(self, first: Point, space: Space) -> Trial:
        """
        Go on with the trial that a kill or a stop has left open, or draw another; the first is that of `first`.

        Each number has a seed of its own, so that a search that was killed looks where one would that was not.
        """
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(first))
        known = self._study.get_trials(deepcopy=False)
        number = sum(trial.state in _ENDED for trial in known)
        self._study.sampler = optuna.samplers.TPESampler(seed=_SEEDS * self._seed + number, n_startup_trials=_AT_RANDOM)
        left = next((trial for trial in known if trial.state == TrialState.RUNNING), None)
        trial = self._study.ask() if left is None else Trial(self._study, left._trial_id)
        for name, dimension in space.items():
            if isinstance(dimension, Choice):
                trial.suggest_categorical(name, dimension.values)
            elif dimension.whole:
                trial.suggest_int(name, int(dimension.low), int(dimension.high))
            else:
                trial.suggest_float(name, dimension.low, dimension.high, log=True)
        if _BEGAN not in trial.user_attrs:
            trial.set_user_attr(_BEGAN, self.clock.seconds)
        return trial

    def hopeless(self, trial: Trial, share: float, ndcg: float) -> bool:
        """Note a measurement of a training under way, and say whether it is behind most trials at that point."""
        step = round(_PERCENT * share)
        if step not in self._study.trials[trial.number].intermediate_values:  # after a kill it is told once more
            trial.report(ndcg, step)
        return trial.should_prune()

    def end(self, trial: Trial, ndcg: list[float] | None, *, why: str = "") -> None:
        """
        Note what came of a trial.

        Args:
            ndcg: by validation query; None where it was stopped early, or failed.
            why: it failed.
        """
        trial.set_user_attr("seconds", round(self.clock.seconds - trial.user_attrs[_BEGAN], 1))
        if why:
            trial.set_user_attr("why", why)
            self._study.tell(trial, state=TrialState.FAIL)
        elif ndcg is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_user_attr("ndcg", [round(one, 6) for one in ndcg])
            self._study.tell(trial, sum(ndcg) / len(ndcg))
        shutil.rmtree(self.under_way, ignore_errors=True)


class Clock:
    """Adds up the seconds that a search has taken, over all its processes."""

    def __init__(self, file: Path) -> None:
        self._file, self._noted, self._began = file, 0.0, time.monotonic()
        with suppress(FileNotFoundError):
            self._noted = float(file.read_text())
        self._before = self._noted

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def note(self, *, now: bool = False) -> None:
        """Write them down, once in a while or now."""
        if now or self.seconds - self._noted >= _NOTE_SECONDS:
            self._noted = self.seconds
            write_text(self._file, f"{self._noted:.1f}")


@contextmanager
def opened_search(root: Path, setup: Mapping[str, Any], first: Point, kept: int | None, seed: int) -> Iterator[Search]:
    """
    Give the newest search of this set-up that began at the present recipe, or a new one.

    Args:
        root: with a directory for each search, by its number.
        setup: what makes two searches the same.
        first: the point of the present recipe.
        kept: the search that the present recipe is from, if any, which goes on although it began at another.
    Raises: BadInput while another process searches.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput("Another process is searching for a recipe here; wait for it, or stop it.") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would tell each trial, and we do
        search = Search(_directory(root, {"setup": setup, "first": first}, kept), seed)
        try:
            yield search
        finally:
            search.clock.note(now=True)


def _directory(root: Path, wanted: Mapping[str, Any], kept: int | None) -> Path:
    numbers = sorted((int(path.name) for path in root.iterdir() if path.name.isdecimal()), reverse=True)
    wanted = json.loads(json.dumps(wanted))
    for number in numbers:
        with suppress(FileNotFoundError):  # it was killed before it began
            had = json.loads((root / str(number) / _SETUP).read_text(encoding="utf-8"))
            if had["setup"] == wanted["setup"] and (had["first"] == wanted["first"] or number == kept):
                return root / str(number)
        shutil.rmtree(root / str(number) / _UNDER_WAY, ignore_errors=True)  # nobody goes on there
    directory = root / str(max(numbers, default=0) + 1)
    directory.mkdir()
    write_text(directory / _SETUP, json.dumps(wanted, indent=2))
    return directory
