"""A search as it is kept: in a real file, opened again as after a kill."""

import subprocess
import sys

import pytest

from relevanced.daemon.errors import BadInput
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.recipe_search import opened_search
from relevanced.daemon.recipe_space import SEARCHED, point_of, space_of

SPACE = space_of(TrainingPolicy(), SEARCHED - {"learning_rate", "epochs"}, 1000, 2)
FIRST = {name: point_of(TrainingPolicy(), 2)[name] for name in SPACE}
NDCG = [0.5] * 12


def opened(root, setup="as it is", first=FIRST, kept=None):
    return opened_search(root, {"setup": setup}, first, kept, seed=0)


def test_a_search_that_was_killed_tries_what_a_quiet_one_tries_and_nothing_twice(tmp_path):
    """A kill leaves a trial open; the last ones are no longer drawn at random."""

    def tried(search, number):
        trial = search.begin(FIRST, SPACE)
        search.end(trial, [0.1 * (number % 4)] * 12)
        return trial.params

    with opened(tmp_path / "quiet") as search:
        quiet = [tried(search, number) for number in range(6)]
    killed = []
    for begins, ends in ((0, 0), (0, 3), (3, 5), (5, 6)):
        with opened(tmp_path / "killed") as search:
            killed += [tried(search, number) for number in range(begins, ends)]
            search.begin(FIRST, SPACE)
    assert killed == quiet
    assert quiet[0] == FIRST
    assert len({tuple(point.items()) for point in quiet}) == len(quiet)
    with opened(tmp_path / "killed") as search:
        assert [trial.number for trial in search.trials] == list(range(6))
        assert search.begin(FIRST, SPACE).number == 6


def test_a_search_goes_on_where_its_set_up_is_the_same_and_else_another_begins(tmp_path):
    numbers = []
    for more in ({}, {}, {"setup": "other"}, {"first": {**FIRST, "epochs": 2}}, {"first": FIRST}):
        with opened(tmp_path, **more) as search:
            numbers.append(search.number)
            assert not (tmp_path / "1" / "trial").exists() or search.number == 1, "nobody goes on there"
            search.under_way.mkdir(exist_ok=True)
    assert numbers == [1, 1, 2, 3, 1]
    with opened(tmp_path, first={**FIRST, "epochs": 3}, kept=3) as search:
        assert search.number == 3, "it began at another recipe, and has found the present one itself"


def test_what_was_killed_before_its_set_up_was_written_is_no_search(tmp_path):
    (tmp_path / "1").mkdir()
    with opened(tmp_path) as search:
        assert search.number == 2


def test_one_process_searches_at_a_time_and_one_that_was_killed_holds_up_nobody(tmp_path):
    program = (
        "import sys; from pathlib import Path; from relevanced.daemon.recipe_search import opened_search\n"
        "with opened_search(Path(sys.argv[1]), {}, {}, None, 0): print('began', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "began\n"
        with pytest.raises(BadInput, match="Another process is searching"), opened(tmp_path):
            pass
        other.kill()
    with opened(tmp_path) as search:
        assert search.number == 2


def test_what_is_behind_half_of_the_others_is_stopped_from_the_middle_on(tmp_path):
    with opened(tmp_path) as search:
        for ndcg in (0.5, 0.6, 0.7, 0.8, 0.9):
            trial = search.begin(FIRST, SPACE)
            assert not search.hopeless(trial, 0.5, ndcg)
            search.end(trial, NDCG)
        trial = search.begin(FIRST, SPACE)
        assert not search.hopeless(trial, 0.25, 0.1)
        assert not search.hopeless(trial, 0.5, 0.71)
        search.end(trial, NDCG)
        trial = search.begin(FIRST, SPACE)
        assert search.hopeless(trial, 0.5, 0.69)
        assert search.hopeless(trial, 0.5, 0.95), "told once more after a kill: the first time counts"
        search.end(trial, None)
        assert [trial.state.name for trial in search.trials] == ["COMPLETE"] * 6 + ["PRUNED"]


def test_seconds_add_up_over_processes_and_a_trial_knows_its_own(tmp_path):
    with opened(tmp_path) as search:
        search.clock._began -= 100
        trial = search.begin(FIRST, SPACE)
        search.clock._began -= 20
    with opened(tmp_path) as search:
        assert 120 <= search.clock.seconds < 130
        search.under_way.mkdir()
        search.end(search.begin(FIRST, SPACE), NDCG)
        assert not search.under_way.exists(), "the files of a trial go with it"
        assert 20 <= search.trials[0].user_attrs["seconds"] < 30
        assert trial.number == 0
