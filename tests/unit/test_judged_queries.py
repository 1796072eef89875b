"""Where the queries of a comparison come from: a cycle's held-out ones, or labels of one's own."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon.errors import BadInput
from relevanced.daemon.judged_queries import held_out_queries, labelled_queries

ROW = {"document_id": "good", "grade": 0.9, "weight": 0.9, "held_out_by": "hash", "actors": 5}
QUERIES = ['{"_id": "q1", "text": "lazy eye"}', '{"_id": "q2", "text": "bald"}', '{"_id": "q3", "text": "sore"}']
LABELS = [
    "query-id\tcorpus-id\tscore",
    "q1\td1\t2",
    "q1\td2\t0",
    "q1\td3\t-1",
    "q2\td2\t1",
    "q2\tgone\t1",
    "q3\tgone\t1",
]


def write(cycles: Path, cycle_id: int, rows: list[dict[str, Any]]) -> None:
    folder = cycles / str(cycle_id)
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "holdout.parquet")


def rows_of(*keys: str, **changes: Any) -> list[dict[str, Any]]:
    return [{**ROW, "query_key": key, "user_query": key.title(), "inclusion": 1.0, **changes} for key in keys]


def test_the_newest_cycle_is_asked_what_its_hash_holds_out_and_those_of_few_people_are_not_shown(tmp_path):
    rows = rows_of("a1") + rows_of("b1", inclusion=0.5) + rows_of("a3", held_out_by="time") + rows_of("b2", actors=2)
    unsure = rows_of("a1", document_id="bad", grade=0.1) + rows_of("a1", document_id="dim", grade=0.4, weight=0.2)
    write(tmp_path, 4, rows + unsure)
    write(tmp_path, 3, rows_of("old"))
    found = held_out_queries(tmp_path, None, k=3, max_weight=3)

    assert found.source == "held-out queries of cycle 4"
    assert found.texts == {"a1": "A1", "b1": "B1", "b2": "B2"}  # a3 is held out by time
    assert found.qrels == {key: {"good": 0.9} for key in ("a1", "b1", "b2")}
    assert found.judged["a1"] == {"good", "bad"}
    assert found.documents == {"good", "bad", "dim"}
    assert found.shown == {"a1", "b1"}
    assert found.weights["b1"] == 2 * found.weights["a1"]


def test_a_file_that_says_not_how_many_typed_a_query_shows_none(tmp_path):
    rows = rows_of("a1", "b1")
    write(tmp_path, 4, [{name: value for name, value in row.items() if name != "actors"} for row in rows])
    assert held_out_queries(tmp_path, 4, k=1, max_weight=3).shown == set()


def test_where_no_cycle_holds_any_out_one_sentence_says_so(tmp_path):
    with pytest.raises(BadInput, match=r"No cycle has held out queries yet; .*, and --qrels DIR asks labelled ones"):
        held_out_queries(tmp_path, None, k=3, max_weight=3)
    write(tmp_path, 4, rows_of("a1", grade=0.2))
    with pytest.raises(BadInput, match="No held-out query of cycle 4 has a relevant document yet"):
        held_out_queries(tmp_path, None, k=3, max_weight=3)
    with pytest.raises(BadInput, match="Cycle 5 holds out no queries; there are those of 4"):
        held_out_queries(tmp_path, 5, k=3, max_weight=3)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    directory = tmp_path / "eyes"
    (directory / "qrels").mkdir(parents=True)
    (directory / "queries.jsonl").write_text("\n".join(QUERIES), encoding="utf-8")
    (directory / "qrels" / "test.tsv").write_text("\n".join(LABELS), encoding="utf-8")
    return directory


def test_labels_are_asked_as_far_as_their_documents_are_loaded(labels):
    found = labelled_queries(labels, {"d1", "d2", "d3", "other"})
    assert found.source == "labelled queries of eyes"
    assert found.texts == {"q1": "lazy eye", "q2": "bald"}
    assert found.qrels == {"q1": {"d1": 2.0}, "q2": {"d2": 1.0}}
    assert found.judged == {"q1": {"d1", "d2"}, "q2": {"d2"}}  # below 0 is no judgment
    assert (found.shown, set(found.weights.values())) == ({"q1", "q2"}, {1.0})
    assert found.remarks == [
        "2 of the 6 labels name documents that are not loaded; queries that have no other (1) are not asked."
    ]
    assert labelled_queries(labels, {"d1", "d2", "d3", "gone"}).remarks == []


def test_labels_of_another_corpus_are_refused(labels):
    with pytest.raises(BadInput, match=r"test\.tsv names no relevant document that is loaded; `relevanced documents"):
        labelled_queries(labels, {"x"})
    (labels / "qrels" / "test.tsv").unlink()
    with pytest.raises(BadInput, match=r"eyes has no qrels/test\.tsv"):
        labelled_queries(labels, {"d1"})
