"""The general set on a real database and a real small model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relevanced.daemon import history
from relevanced.daemon.errors import BadInput
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.general import general_ndcg, general_set
from relevanced.daemon.ports import silent
from relevanced.daemon.wiring import Parts
from tests.organs import open_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Version 1 is of a tiny model, and the documents of the data set are loaded."""
    folder = tmp_path_factory.mktemp("general")
    parts = open_parts(folder / "home", folder / "labels")
    yield parts
    parts.close()


def labels(parts: Parts) -> Path:
    return parts.home.parent / "labels"


def test_without_a_set_nothing_is_measured_and_one_that_is_not_there_is_named(parts: Parts) -> None:
    assert general_ndcg(parts.stages, [1], silent) == {}
    missing = replace(parts.stages, gate=GatePolicy(general="/nowhere"))
    with pytest.raises(BadInput, match=r"/nowhere has no corpus\.jsonl"):
        general_set(missing)


def test_a_version_is_measured_once_and_anew_when_the_set_is_another(parts: Parts) -> None:
    stages = replace(parts.stages, gate=GatePolicy(general=str(labels(parts))))
    measured: list[str] = []

    def progress(label: str, done: int, total: int, _detail: str = "") -> None:
        measured.append(label)

    first = general_ndcg(stages, [1, 1], progress)
    assert (first.keys(), len(first[1]), len(measured)) == ({1}, 5, 1)
    assert all(0 <= value <= 1 for value in first[1].values())
    assert general_ndcg(stages, [1], progress) == first
    assert len(measured) == 1
    (stages.directory / "general.json").write_text("torn")
    assert general_ndcg(stages, [1], progress) == first
    with (labels(parts) / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "other", "title": "illness of the heart", "text": ""}\n')
    assert general_ndcg(stages, [1], progress)[1]["heart"] <= first[1]["heart"]
    assert len(measured) == 3
    assert history.versions(parts.database)[0].version_id == 1


def test_a_large_set_is_cut_and_keeps_what_answers_its_queries(parts: Parts) -> None:
    stages = replace(parts.stages, gate=GatePolicy(general=str(labels(parts))), gate_documents=7)
    found = general_set(stages)
    assert found is not None
    assert len(found.documents) == 7
    assert {name for row in found.qrels.values() for name in row} <= found.documents.keys()
