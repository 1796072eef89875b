"""The traffic of a rehearsal, through the real search and into a real log, and what it was measured by."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import SecretStr

from relevanced.daemon.config import Settings
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import Interrupted
from relevanced.daemon.exploration import ExplorationPolicy
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.place import Place
from relevanced.daemon.rehearsal.rehearse import START
from relevanced.daemon.rehearsal.searchers import Searchers, SearchersPolicy
from relevanced.daemon.rehearsal.shown import Shown, sample
from relevanced.daemon.rehearsal.traffic import Traffic
from relevanced.daemon.wiring import Parts
from tests.tiny import WORDS, make_tiny_model

TEXTS = [" ".join(words) for words in combinations(WORDS, 2)]
DATASET = Dataset(
    name="pairs",
    documents=[Document(f"d{number}", text, "") for number, text in enumerate(TEXTS)],
    train_queries={f"t{number}": text for number, text in enumerate(TEXTS)},
    test_queries={},
    train_qrels={f"t{number}": {f"d{number}": 1, f"d{(number + 1) % len(TEXTS)}": 1} for number in range(len(TEXTS))},
    test_qrels={},
)
POLICY = SearchersPolicy(mean_sessions=8, flood=True, reformulation=1.0, typing_variation=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("traffic") / "tiny")


@pytest.fixture
def new_parts(new_database_url: Callable[[], str], tmp_path: Path, model: Path) -> Iterator[Callable[[float], Parts]]:
    """Makes a home of its own with the documents loaded, whose answers have neighbours swapped in a share."""
    made: list[Parts] = []

    def create(swaps: float) -> Parts:
        settings = Settings(
            database_url=SecretStr(new_database_url()),
            model=ModelPolicy(base=str(model)),
            exploration=ExplorationPolicy(swap_probability=swaps),
        )
        parts = Parts(tmp_path / str(len(made)), settings, seed=1)
        made.append(parts)
        load_documents(parts.database, DATASET.documents, silent)
        make_first_version(parts.stages, settings.model, silent)
        return parts

    yield create
    for parts in made:
        parts.close()


class Stopped:
    """A progress that is interrupted at its first sign."""

    def __call__(self, label: str, done: int, total: int) -> None:
        raise Interrupted


def live_a_week(parts: Parts, place: Place, progress: Callable[[str, int, int], None] = silent) -> Searchers:
    searchers = Searchers(DATASET, POLICY, seed=1, start=START)
    sessions = list(searchers.sessions(0))
    source = parts.source_openers()["spool"]()
    try:
        shown = Shown(parts.stages, DATASET, sample(sessions, 1, 0))
        Traffic(parts, searchers, source, place).run(0, sessions, shown, progress)
    finally:
        source.close()
    return searchers


def counts(parts: Parts, statement: str) -> list[tuple[object, ...]]:
    with parts.log_store.maintenance() as cursor:
        return cursor.execute(statement).fetchall()


def test_traffic_that_was_stopped_goes_on_and_comes_to_the_same(new_parts: Callable[[float], Parts], tmp_path: Path):
    whole, stopped = new_parts(0.0), new_parts(0.0)
    place = Place(tmp_path / "notes-of-whole", {})
    searchers = live_a_week(whole, place)
    with pytest.raises(Interrupted):
        live_a_week(stopped, Place(tmp_path / "notes", {}), Stopped())
    half = Place(tmp_path / "notes", {})
    total = len(list(searchers.sessions(0)))
    assert 0 < half.sessions_done(0) < total
    live_a_week(stopped, half)
    assert Place(tmp_path / "notes", {}).sessions_done(0) == total
    assert half.exposure(0) == place.exposure(0)
    clicks = "SELECT session_id, document_id, position, count(*) FROM lake.click GROUP BY ALL ORDER BY ALL"
    assert len(counts(whole, clicks)) == len(counts(stopped, clicks)) > 0
    for table in ("query", "click"):
        count = f"SELECT count(*), min(timestamp), max(timestamp) FROM lake.{table}"
        assert counts(whole, count) == counts(stopped, count)


def test_who_tries_again_and_who_floods_is_in_the_log(new_parts: Callable[[float], Parts], tmp_path: Path):
    parts = new_parts(0.0)
    searchers = live_a_week(parts, Place(tmp_path / "notes", {}))
    sessions = len(list(searchers.sessions(0)))
    ((searches,),) = counts(parts, "SELECT count(*) FROM lake.query")
    assert searches > sessions
    ((clicks, most),) = counts(
        parts, "SELECT sum(n), max(n) FROM (SELECT count(*) AS n FROM lake.click GROUP BY query_id, document_id)"
    )
    assert most > 1
    assert clicks > most


def test_without_exploration_people_are_shown_what_live_would_have_shown(
    new_parts: Callable[[float], Parts], tmp_path: Path
):
    place = Place(tmp_path / "notes", {})
    live_a_week(new_parts(0.0), place)
    exposure = place.exposure(0)
    assert exposure.searches > exposure.sampled / 2 > 0
    assert 0 < exposure.shown_ndcg < 1
    assert exposure.unexplored_ndcg == pytest.approx(exposure.shown_ndcg, abs=1e-9)


def test_swaps_cost_something(new_parts: Callable[[float], Parts], tmp_path: Path):
    """The tiny model knows the words, so its own order is better than a shuffled one."""
    plain, swapped = Place(tmp_path / "plain", {}), Place(tmp_path / "swapped", {})
    live_a_week(new_parts(0.0), plain)
    live_a_week(new_parts(1.0), swapped)
    first, second = plain.exposure(0), swapped.exposure(0)
    assert second.shown_ndcg < second.unexplored_ndcg
    # Who tries again differs with what was shown, so the searches are nearly the same, not quite.
    assert second.unexplored_ndcg == pytest.approx(first.shown_ndcg, abs=0.05)
