"""The search for a recipe: real trainings of a tiny model in child processes, killed and stopped, and what cycles make
of what was found."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon.config import load_settings
from relevanced.daemon.cycle import begin_cycle
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.ports import silent
from relevanced.daemon.recipe_search import opened_search
from relevanced.daemon.records import Document, Outcome
from relevanced.daemon.tuning import Budget, tune
from relevanced.daemon.tuning_data import lesson_of
from relevanced.daemon.wiring import Parts
from tests.commands import giver
from tests.tiny import WORDS, make_tiny_model

PAIRS = [(one, other) for one in WORDS for other in WORDS if one < other]
ASKED = ("seek", "find")
PATIENCE = 120  # seconds; only a hang waits so long
# One rate is left to choose; a checkpoint behind each step, of which there are many.
TOML = """
[model]
base = "{model}"
[training]
batch_size = 8
epochs = 4
temperature = 0.05
mask_above = 0.2
keep_base = 0.0
lora_rank = 0
negatives = 1
threads = 1
checkpoint_seconds = 0
"""


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = new_home()
    model = make_tiny_model(tmp_path_factory.mktemp("tuning") / "tiny")
    (home / "relevanced.toml").write_text(TOML.format(model=model))
    return home


@pytest.fixture(scope="module")
def parts(home: Path) -> Iterator[Parts]:
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    load_documents(parts.database, [Document(f"{one} {other}", f"{one} {other}", "") for one, other in PAIRS], silent)
    make_first_version(parts.stages, parts.settings.model, silent)
    yield parts
    parts.close()


def mine(parts: Parts, pairs: list[tuple[str, str]]) -> int:
    """A cycle that has mined and ended: who asks to seek or find X Y wants "X Y"."""
    cycle = begin_cycle(parts.database, "test")
    names = [f"{one} {other}" for one, other in pairs for _ in ASKED]
    queries = [f"{word} {one} {other}" for one, other in pairs for word in ASKED]
    columns = {
        "query_key": queries,
        "anchor": queries,
        "positive": names,
        "negatives": [[other] for other in [*names[2:], *names[:2]]],
        "weight": [1.0] * len(names),
        "source": ["clicks"] * len(names),
    }
    pq.write_table(pa.table(columns), parts.stages.files(cycle) / "triplets.parquet")
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'ended', ended_at = now()")
    return cycle.cycle_id


def search_again(parts: Parts, progress=silent, cycle_id=None, **budget) -> Outcome:
    wanted = Budget(**{"trials": 2, "seconds": None, **budget})
    return tune(parts.stages, cycle_id, wanted, parts.clock.now(), progress)


class Listener:
    """A Progress that notes the steps, and may stop the search as Ctrl-C does."""

    def __init__(self, stops_at=lambda _label: False):
        self.steps, self._stops_at = [], stops_at

    def __call__(self, label, done, total, detail=""):
        if label == "Training":
            self.steps.append(done)
        if self._stops_at(label):
            raise KeyboardInterrupt


def test_what_cannot_be_searched_is_said_in_a_sentence(parts, home, capsys):
    give = giver(home, capsys)
    few = mine(parts, PAIRS[:20])
    (parts.stages.directory / str(few) / "triplets.parquet").rename(home / "kept")
    for command, sentence in (
        (("tune",), "No cycle has mined triplets yet and ended; `relevanced cycle run` begins one."),
        (("tune", "--trials", "0"), "--trials 0 compares nothing"),
        (("tune", "--seconds", "0"), "--seconds 0 leaves no time"),
    ):
        status, said, complaint = give(*command)
        assert (status, said, complaint.count("\n")) == (2, "", 1)
        assert sentence in complaint
    (home / "kept").rename(parts.stages.directory / str(few) / "triplets.parquet")
    with pytest.raises(BadInput, match=r"Of the 40 training queries of cycle \d+ \d+ would measure, and fewer than 20"):
        search_again(parts)
    with pytest.raises(BadInput, match="Cycle 99 has not ended with triplets; there are those of"):
        search_again(parts, cycle_id=99)


def measured(parts: Parts, *ndcg: list[float]) -> None:
    """Let a search have measured its first trials so."""
    lesson = lesson_of(parts.stages, None)
    with opened_search(parts.tuned.directory, lesson.setup(), lesson.first, None, 0) as search:
        for one in ndcg:
            search.end(search.begin(lesson.first, lesson.space), one)


def test_killed_and_stopped_a_search_goes_on_where_it_was_and_counts_what_it_spent(parts, home, capsys):
    cycle_id = mine(parts, PAIRS)
    measured(parts, [1.0] * len(lesson_of(parts.stages, None).validation.queries))
    working = parts.tuned.directory / "1" / "trial"
    command = [sys.executable, "-m", "relevanced.daemon", "--home", str(home), "tune", "--trials", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as killed:
        deadline = time.monotonic() + PATIENCE
        while not (working / "training" / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        (trainer,) = psutil.Process(killed.pid).children()
        killed.send_signal(signal.SIGKILL)
        trainer.wait(PATIENCE)

    nothing = search_again(parts, seconds=1)
    assert nothing.sentence.startswith("Search 1 has tried 1 of 2 recipes in ")
    assert "nothing yet to compare" in nothing.sentence
    assert nothing.numbers["seconds"] > 1, "what the killed process spent counts"

    stopped = search_again(parts, Listener(lambda label: label == "Preparing to train"))
    assert stopped.numbers["stopped"]
    assert [trial["trial"] for trial in stopped.numbers["trials"]] == [1]

    went_on = Listener()
    outcome = search_again(parts, went_on)
    assert went_on.steps[0] > 0, "from the checkpoint of what was killed"
    first, second = outcome.numbers["trials"]
    assert first["settings"] == {"learning_rate": 2e-4}
    assert second["settings"] != first["settings"]
    assert second["seconds"] > 1, "the killed process included"
    assert outcome.numbers["cycle"] == cycle_id
    assert not working.exists()

    status, said, _ = giver(home, capsys)("tune", "--trials", "2", "--json")
    again = json.loads(said)
    assert (status, again["trials"]) == (0, outcome.numbers["trials"])


def test_a_recipe_that_is_better_beyond_luck_is_what_the_next_cycle_trains_by_until_it_is_dropped(parts, home, capsys):
    give = giver(home, capsys)
    mine(parts, PAIRS)
    before = [0.5, 0.6] * 10
    lucky = [*before[:-1], 1.0]
    measured(parts, before, lucky)
    outcome = search_again(parts)
    assert not outcome.numbers["kept"]
    assert "none is better than the first by more than luck may be: the best, trial 2, differs by +0.020" in (
        outcome.sentence
    )
    assert parts.tuned.found() is None

    measured(parts, [one + 0.1 + place / 1000 for place, one in enumerate(before)])
    search = outcome.numbers["search"]
    status, said, _ = give("tune", "--trials", "3")
    assert status == 0
    assert f"Search {search} has tried 3 recipes in" in said
    assert "by that of trial 3 NDCG@10 rises by 0.1" in said
    origin = f"search {search}, trial 3"
    assert f"Cycles train by the recipe from {origin}, since" in give("status")[1]

    assert give("tune", "drop")[:2] == (0, "The next cycles train by [training] alone.\n")
    assert "recipe" not in give("status")[1]
    assert give("tune", "drop")[1] == "No recipe of a search was kept.\n"
