"""Versions and models in directories compared on a real database, with real models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from relevanced.daemon import history
from relevanced.daemon.arms import arms_of, runs_of, taught_remarks
from relevanced.daemon.config import SchedulePolicy, Settings
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document
from relevanced.daemon.wiring import Parts
from tests.tiny import WORDS, make_tiny_model

DOCUMENTS = [Document(f"d{place}", word, f"the {word} of the left") for place, word in enumerate(WORDS)]
QUERIES = {"q1": "small heart", "q2": "red skin of the eye"}
JUDGED = JudgedQueries(
    source="labelled queries",
    texts=QUERIES,
    qrels={"q1": {"d0": 1.0}, "q2": {"d4": 1.0}},
    judged={"q1": {"d0"}, "q2": {"d4"}},
    weights=dict.fromkeys(QUERIES, 1.0),
    shown=set(QUERIES),
    documents={"d0", "d4"},
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories with models: `one`, `other` of another seed, `one` once more elsewhere."""
    directory = tmp_path_factory.mktemp("models")
    make_tiny_model(directory / "one")
    make_tiny_model(directory / "other", seed=1)
    make_tiny_model(directory / "elsewhere" / "other", seed=2)
    return directory


@pytest.fixture
def parts(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path, Settings(database_url=SecretStr(new_database_url())))
    yield parts
    parts.close()


@pytest.fixture
def loaded(parts: Parts, models: Path) -> Parts:
    """Version 1 is the model `one`; nothing is encoded yet."""
    load_documents(parts.database, DOCUMENTS, silent)
    register(parts, models / "one")
    return parts


def register(parts: Parts, base: Path, **manifest: int) -> int:
    with parts.database.connection() as connection:
        version_id = history.register_version(connection, None)
    directory = parts.models.adopt(ModelPolicy(base=str(base)), version_id)
    parts.models.write_manifest(directory, manifest)
    encoder = parts.models.open(directory)
    history.complete_version(
        parts.database, version_id, directory, encoder.fingerprint, encoder.dimension, manifest or {"base": "b"}
    )
    return version_id


def test_a_model_in_a_directory_ranks_as_the_version_that_it_would_become(loaded: Parts, models: Path) -> None:
    signs: list[tuple[str, int, int]] = []
    arms = arms_of(loaded.stages, "1", str(models / "other"), ModelPolicy())
    assert [arm.name for arm in arms] == ["version 1", "model other"]
    first, second = runs_of(loaded.stages, arms, JUDGED, lambda *sign: signs.append(sign))
    assert ("Encoding documents for model other", len(DOCUMENTS), len(DOCUMENTS)) in signs
    assert [one.version_id for one in history.versions(loaded.database)] == [1]  # it has become none
    assert {len(run) for run in (*first.values(), *second.values())} == {len(DOCUMENTS)}

    register(loaded, models / "other")
    as_versions = runs_of(loaded.stages, arms_of(loaded.stages, "1", "2", ModelPolicy()), JUDGED, silent)
    assert first == as_versions[0]
    for query, scores in second.items():
        assert scores == pytest.approx(as_versions[1][query], abs=1e-6)


def test_a_directory_whose_model_is_a_versions_uses_what_that_has_encoded(loaded: Parts, models: Path) -> None:
    register(loaded, models / "other")
    arms = arms_of(loaded.stages, str(models / "other"), str(models / "elsewhere" / "other"), ModelPolicy())
    assert [(arm.name, arm.version_id) for arm in arms] == [("version 2 (other)", 2), ("model other", None)]
    own = history.version(loaded.database, 2).directory
    assert arms_of(loaded.stages, "1", str(own), ModelPolicy())[1].version_id == 2


def test_the_settings_say_how_a_directorys_model_reads(loaded: Parts, models: Path) -> None:
    policy = ModelPolicy(query_prompt="large ", max_tokens=8)
    plain, prompted = (arms_of(loaded.stages, "1", str(models / "other"), one)[1] for one in (ModelPolicy(), policy))
    assert plain.encoder is not None
    assert prompted.encoder is not None
    assert prompted.fingerprint != plain.fingerprint
    given, by_hand = prompted.encoder.encode_queries(["ear"]), plain.encoder.encode_queries(["large ear"])
    np.testing.assert_allclose(given, by_hand, atol=1e-3)  # bf16, where the CPU computes in it


def test_two_models_of_one_name_are_told_apart_by_their_paths(loaded: Parts, models: Path) -> None:
    first, second = models / "other", models / "elsewhere" / "other"
    names = [arm.name for arm in arms_of(loaded.stages, str(first), str(second), ModelPolicy())]
    assert names == [f"model {first}", f"model {second}"]


def test_both_arms_rank_the_same_pool_where_documents_are_many(
    new_database_url: Callable[[], str], models: Path, tmp_path: Path
) -> None:
    schedule = SchedulePolicy(gate_documents=1000)
    parts = Parts(tmp_path, Settings(database_url=SecretStr(new_database_url()), schedule=schedule))
    more = [Document(f"m{number}", "", f"pain {number}") for number in range(1200)]
    load_documents(parts.database, DOCUMENTS + more, silent)
    register(parts, models / "one")
    signs: list[tuple[str, int, int]] = []
    arms = arms_of(parts.stages, "1", str(models / "other"), ModelPolicy())
    runs_of(parts.stages, arms, JUDGED, lambda *sign: signs.append(sign))
    assert [sign for sign in signs if sign[0] == "Encoding documents for model other"][-1][1:] == (1000, 1000)
    assert signs[0][2] == 1000  # version 1
    parts.close()


def test_queries_that_a_version_was_taught_are_told(loaded: Parts, models: Path) -> None:
    register(loaded, models / "other", cycle_id=7)
    arms = arms_of(loaded.stages, "1", "2", ModelPolicy())
    assert taught_remarks(loaded.stages, arms, JUDGED) == []
    folder = loaded.stages.directory / "7"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"query_key": ["a small heart", "pain"]}), folder / "triplets.parquet")
    assert taught_remarks(loaded.stages, arms, JUDGED) == [
        "1 of the 2 queries were in the training of version 2; on those it does better than on new ones."
    ]


def test_what_cannot_be_compared_is_refused_with_one_sentence(loaded: Parts, models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one = str(models / "one")
    for first, second, sentence in (
        ("1", "1", "Both are 1; name two that differ"),
        ("1", one, "are the same model"),
        (one, f"{one}/", "are the same model"),
        ("1", "7", "There is no version 7"),
        ("1", str(tmp_path / "nowhere"), "nowhere is neither a version's number nor a directory with a model"),
        ("1", str(tmp_path / "empty"), r"empty holds no sentence-transformers model; modules\.json is missing"),
    ):
        with pytest.raises(BadInput, match=sentence):
            arms_of(loaded.stages, first, second, ModelPolicy())


def test_without_documents_nothing_is_ranked(parts: Parts, models: Path) -> None:
    arms = arms_of(parts.stages, str(models / "one"), str(models / "other"), ModelPolicy())
    with pytest.raises(BadInput, match="There are no documents to rank"):
        runs_of(parts.stages, arms, JUDGED, silent)
