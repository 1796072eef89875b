"""What is asked and what is taught, out of labels and out of a cycle; a real database and a real, tiny model."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon.errors import BadInput
from relevanced.daemon.lessons import lessons_of_cycle, lessons_of_labels
from relevanced.daemon.ports import silent
from relevanced.daemon.stages import Stages
from tests.organs import ORGANS, add_query, open_parts, write_labels


@pytest.fixture(scope="module")
def stages(new_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    parts = open_parts(new_home(), tmp_path_factory.mktemp("organs") / "labels")
    yield parts.stages
    parts.close()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path)


def taught_of(triplets: pa.Table | None) -> list[tuple[str, str]]:
    return sorted(zip(*(triplets[name].to_pylist() for name in ("anchor", "positive_id")), strict=True))


def test_the_test_queries_are_asked_and_the_train_queries_are_taught(stages, labels):
    judged, triplets = lessons_of_labels(stages, labels, teach=True, progress=silent)
    assert judged.qrels.keys() == ORGANS.keys()
    assert taught_of(triplets) == sorted((f"{latin} disease", f"{latin}1") for latin in ORGANS.values())
    assert judged.remarks == []
    assert lessons_of_labels(stages, labels, teach=False, progress=silent) == (judged, None)


def test_what_is_nearly_a_test_query_is_not_taught(stages, labels):
    add_query(labels, "train", "near", "Illnesses of a HEART", "cardiac0")
    judged, triplets = lessons_of_labels(stages, labels, teach=True, progress=silent)
    assert "cardiac0" not in triplets["positive_id"].to_pylist()
    assert len(triplets) == 5
    assert judged.remarks == ["1 of the 6 train queries are not taught, since they are nearly those of the test."]


def test_labels_without_a_train_split_are_halved_and_near_duplicates_stay_together(stages, labels):
    (labels / "qrels" / "train.tsv").unlink()
    for plain, latin in ORGANS.items():
        add_query(labels, "test", f"{plain} again", f"{plain} illnesses", f"{latin}1")
    judged, triplets = lessons_of_labels(stages, labels, teach=True, progress=silent)
    asked = {query.removesuffix(" again") for query in judged.qrels}
    taught = {plain for plain in ORGANS if any(plain in anchor for anchor, _ in taught_of(triplets))}
    assert asked | taught == ORGANS.keys()
    assert not asked & taught
    assert (len(judged.qrels), len(triplets)) == (2 * len(asked), 2 * len(taught))
    assert f"so {len(triplets)} of the 10 queries are taught" in judged.remarks[0]
    whole, nothing = lessons_of_labels(stages, labels, teach=False, progress=silent)
    assert (len(whole.qrels), nothing, whole.remarks) == (10, None, [])


def test_labels_of_documents_that_are_not_there_teach_nothing(stages, labels):
    (labels / "qrels" / "train.tsv").write_text("t0\tgone\t1\n")
    judged, triplets = lessons_of_labels(stages, labels, teach=True, progress=silent)
    assert (len(judged.qrels), triplets) == (5, None)


@pytest.fixture
def cycles(stages: Stages) -> Iterator[Path]:
    """The files of two cycles; the newer was stopped before it had mined triplets."""
    held_out = [
        {"document_id": f"{latin}0", "query_key": plain, "user_query": plain}
        | {"grade": 0.9, "weight": 0.8, "inclusion": 1.0, "held_out_by": "hash", "actors": 7}
        for plain, latin in ORGANS.items()
    ]
    for number in ("1", "2"):
        (stages.directory / number).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(held_out), stages.directory / number / "holdout.parquet")
    pq.write_table(pa.table({"anchor": ["cardiac disease"]}), stages.directory / "1" / "triplets.parquet")
    yield stages.directory
    shutil.rmtree(stages.directory)


def test_what_an_older_cycle_has_mined_is_not_taught_for_it_may_be_held_out_now(stages, cycles):
    judged, triplets = lessons_of_cycle(stages, teach=True)
    assert (judged.source, triplets) == ("held-out queries of cycle 2", None)


def test_the_newest_cycle_asks_what_it_holds_out_and_teaches_what_it_has_mined(stages, cycles):
    shutil.copy(cycles / "1" / "triplets.parquet", cycles / "2" / "triplets.parquet")
    judged, triplets = lessons_of_cycle(stages, teach=True)
    assert judged.qrels.keys() == ORGANS.keys()
    assert triplets["anchor"].to_pylist() == ["cardiac disease"]
    assert lessons_of_cycle(stages, teach=False)[1] is None


def test_triplets_that_cannot_be_read_are_one_sentence(stages, cycles):
    (cycles / "2" / "triplets.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"triplets\.parquet cannot be read .*; --no-curve does without it") as raised:
        lessons_of_cycle(stages, teach=True)
    assert "\n" not in str(raised.value)
