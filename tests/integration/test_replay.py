"""What the step train teaches, and whom, on a real database and real small models."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import Progress, silent
from relevanced.daemon.records import Cycle
from relevanced.daemon.replay import lesson_of
from relevanced.daemon.runs import run_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.steps import train_candidate
from relevanced.daemon.wiring import Parts
from tests.organs import ORGANS, open_parts
from tests.tiny import make_tiny_model

Pairs = list[tuple[str, str]]
OLD: Pairs = [(f"{plain} {number}", f"{latin}{number}") for plain, latin in ORGANS.items() for number in range(2)]
NEW: Pairs = [("the red skin", "cutaneous0"), ("pain of the eye", "renal1"), ("small bone", "osseous0")]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Version 1 is the base; version 2, of another tiny model, is live, and was taught OLD by cycle 1."""
    folder = tmp_path_factory.mktemp("replay")
    parts = open_parts(folder / "home", folder / "labels")
    cycle = mined(parts, OLD)
    with parts.database.connection() as connection:
        history.register_version(connection, 1)
    directory = parts.models.adopt(ModelPolicy(base=str(make_tiny_model(folder / "other", seed=1))), 2)
    parts.models.write_manifest(directory, {})
    encoder = parts.models.open(directory)
    manifest = {"base": 1, "cycle_id": cycle.cycle_id}
    history.complete_version(parts.database, 2, directory, encoder.fingerprint, encoder.dimension, manifest)
    parts.index.prepare(2, encoder, silent)
    history.set_state(parts.database, 2, "verified")
    parts.promotion.promote(2, actor="ada", reason="test")
    yield parts
    parts.close()


def stages_of(parts: Parts, **training: Any) -> Stages:
    policy = replace(parts.stages.training, threads=1, **training)
    gate = replace(parts.stages.gate, anchor_ndcg=0.01)  # a model with random weights answers little well
    return replace(parts.stages, training=policy, gate=gate, min_triplets=2)


def mined(parts: Parts, pairs: Pairs) -> Cycle:
    """A cycle that has mined these pairs, and comes to its step train; the one before has ended."""
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'ended', ended_at = now() WHERE ended_at IS NULL")
    cycle = begin_cycle(parts.database, "test")
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'train' WHERE cycle_id = %s", [cycle.cycle_id])
    names = [name for _, name in pairs]
    columns = {
        "query_key": [query for query, _ in pairs],
        "anchor": [query for query, _ in pairs],
        "positive_id": names,
        "positive": names,
        "negatives": pa.array([[] for _ in pairs], pa.list_(pa.string())),
        "weight": [1.0] * len(pairs),
        "source": ["clicks"] * len(pairs),
    }
    pq.write_table(pa.table(columns), parts.stages.files(cycle) / "triplets.parquet")
    return cycle_of(parts.database, cycle.cycle_id)


def test_from_live_it_is_live_that_learns_and_only_what_is_new(parts: Parts) -> None:
    cycle = mined(parts, OLD + NEW)
    outcome = train_candidate(stages_of(parts, start="live"), cycle, silent)
    assert outcome.sentence.startswith("Trained candidate 3 from live version 2 on 3 triplets in")
    manifest = history.version(parts.database, 3).manifest
    assert (manifest["base"], manifest["trained_from"], manifest["parent"]) == (1, 2, 2)
    assert (manifest["recipe"]["start"], manifest["taught"]) == ("live", {"new": 3, "replayed": 0})
    job = json.loads((parts.stages.files(cycle) / "training" / "job.json").read_text())
    assert Path(job["base"]) == history.version(parts.database, 2).directory


def test_where_too_little_is_new_the_cycle_ends_and_no_number_is_taken(parts: Parts) -> None:
    cycle = mined(parts, OLD + NEW[:1])
    outcome = train_candidate(stages_of(parts, start="live"), cycle, silent)
    assert (outcome.verdict, outcome.sentence) == (
        "nothing",
        "Fewer than 2 triplets are new to the live version, so this cycle ends here.",
    )
    assert cycle_of(parts.database, cycle.cycle_id).candidate_version_id is None


def test_from_base_all_history_is_taught_and_nothing_else_is_written(parts: Parts) -> None:
    cycle = mined(parts, OLD + NEW)
    lesson = lesson_of(stages_of(parts), cycle, silent)
    assert lesson is not None
    assert (lesson.start.version_id, lesson.new, lesson.replayed) == (1, 13, 0)
    assert [file.name for file in parts.stages.files(cycle).iterdir()] == ["triplets.parquet"]


def test_old_anchors_are_replayed_and_an_attempt_begun_again_is_taught_the_same(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[int] = []

    def noted(stages: Stages, version_id: int, texts: dict[str, str], progress: Progress) -> pa.Table:
        ranked.append(version_id)
        return run_of(stages, version_id, texts, progress)

    monkeypatch.setattr("relevanced.daemon.replay.run_of", noted)
    stages, cycle = stages_of(parts, start="live", replay_share=0.5), mined(parts, OLD + NEW)
    lesson = lesson_of(stages, cycle, silent)
    assert lesson is not None
    assert (lesson.start.version_id, lesson.new, lesson.replayed, ranked) == (2, 3, 3, [1, 2])
    taught = pq.read_table(lesson.triplets)["query_key"].to_pylist()
    assert taught[:3] == [query for query, _ in NEW]
    assert set(taught[3:]) <= {query for query, _ in OLD}
    assert (lesson_of(stages, cycle, silent), ranked) == (lesson, [1, 2])
    more = lesson_of(stages_of(parts, start="live", replay_share=0.7), cycle, silent)
    assert more is not None
    assert (more.replayed, ranked) == (7, [1, 2, 1, 2])


def test_what_one_of_the_versions_answers_badly_is_no_anchor(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first query's document comes first by the base version, and by live not at all."""

    def given(_stages: Stages, version_id: int, texts: dict[str, str], _progress: Progress) -> pa.Table:
        rows = [
            {
                "query_key": query,
                "document_id": "none" if version_id == 2 and query == OLD[0][0] else name,
                "score": 1.0,
            }
            for query, name in OLD
            if query in texts
        ]
        return pa.Table.from_pylist(rows)

    monkeypatch.setattr("relevanced.daemon.replay.run_of", given)
    lesson = lesson_of(stages_of(parts, start="live", replay_share=0.9), mined(parts, OLD + NEW), silent)
    assert lesson is not None
    replayed = pq.read_table(lesson.triplets)["query_key"].to_pylist()[3:]
    assert sorted(replayed) == sorted(query for query, _ in OLD[1:])


def test_from_base_anchors_are_taught_twice(parts: Parts) -> None:
    lesson = lesson_of(stages_of(parts, replay_share=0.2), mined(parts, OLD), silent)
    assert lesson is not None
    assert (lesson.start.version_id, lesson.new, lesson.replayed) == (1, 10, 2)


def test_where_the_files_of_live_are_lost_it_is_taught_all(parts: Parts) -> None:
    file = parts.stages.directory / "1" / "triplets.parquet"
    hidden = file.rename(file.with_suffix(".hidden"))
    lesson = lesson_of(stages_of(parts, start="live"), mined(parts, OLD + NEW), silent)
    hidden.rename(file)
    assert lesson is not None
    assert (lesson.start.version_id, lesson.new) == (2, 13)


def test_the_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "relevanced.toml"
    file.write_text(
        '[training]\nstart = "live"\nreplay_share = 0.2\n[gate]\ngeneral = "beir"\nmax_anchor_loss = 0.05\n'
    )
    settings = load_settings(file)
    assert (settings.training.start, settings.training.replay_share) == ("live", 0.2)
    gate = settings.gate
    assert (gate.general, gate.max_general_loss, gate.max_anchor_loss) == ("beir", 0.02, 0.05)
