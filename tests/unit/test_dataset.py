"""A data set is read whole or refused with one sentence, and cut down without losing what its queries need."""

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced.daemon.beir import relevant_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Document
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset

FILES = {
    "corpus.jsonl": [
        '{"_id": "d1", "title": "Amblyopia", "text": "Poor sight of one eye."}',
        '{"_id": "d2", "title": "Ptosis", "text": ""}',
        '{"_id": "d3", "title": "Alopecia", "text": ""}',
    ],
    "queries.jsonl": [
        '{"_id": "q1", "text": "lazy eye"}',
        '{"_id": "q2", "text": "drooping eyelid"}',
        '{"_id": "q3", "text": "Bald."}',
    ],
    "qrels/train.tsv": ["query-id\tcorpus-id\tscore", "q1\td1\t2", "q1\td2\t0", "q2\td2\t1"],
    "qrels/test.tsv": ["query-id\tcorpus-id\tscore", "q3\td3\t1"],
}


def write_files(directory: Path, files: dict[str, list[str]], gzipped: tuple[str, ...] = ()) -> Path:
    (directory / "qrels").mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        content = "".join(f"{line}\n" for line in lines).encode()
        if name in gzipped:
            (directory / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("gzipped", [(), *((name,) for name in FILES), tuple(FILES)])
def test_any_file_may_be_gzipped(tmp_path, gzipped):
    dataset = read_dataset(write_files(tmp_path / "eyes", FILES, gzipped))
    assert dataset == Dataset(
        name="eyes",
        documents=[
            Document("d1", "Amblyopia", "Poor sight of one eye."),
            Document("d2", "Ptosis", ""),
            Document("d3", "Alopecia", ""),
        ],
        train_queries={"q1": "lazy eye", "q2": "drooping eyelid"},
        test_queries={"q3": "Bald."},
        train_qrels={"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}},
        test_qrels={"q3": {"d3": 1}},
    )


def test_qrels_need_no_heading(tmp_path):
    bare = {name: [line for line in lines if not line.startswith("query-id")] for name, lines in FILES.items()}
    assert read_dataset(write_files(tmp_path / "a", bare)).train_qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}


def test_a_query_without_a_relevant_document_is_left_out(tmp_path):
    files = FILES | {"qrels/train.tsv": ["q1\td1\t0", "q2\td2\t1"]}
    assert list(read_dataset(write_files(tmp_path, files)).train_queries) == ["q2"]


@pytest.mark.parametrize("text", ["bald", "Bald?", "the bald", "balds"])
def test_a_train_query_that_is_nearly_a_test_query_is_left_out(tmp_path, text):
    files = FILES | {"queries.jsonl": [*FILES["queries.jsonl"][1:], json.dumps({"_id": "q1", "text": text})]}
    assert list(read_dataset(write_files(tmp_path, files)).train_queries) == ["q2"]


BAD_LINES = [
    ("queries.jsonl", '{"_id": "q4"', "queries.jsonl, line 4: "),
    ("queries.jsonl", '{"_id": 4, "text": "sore"}', "queries.jsonl, line 4: Expected `str`, got `int` - at `$._id`; "),
    ("queries.jsonl", '{"_id": "q1", "text": "sore"}', "queries.jsonl, line 4: query q1 was there before; "),
    ("queries.jsonl", '{"_id": "q4", "text": " "}', "queries.jsonl, line 4: query q4 has no text; "),
    ("qrels/test.tsv", "q3\td9\t1", "qrels/test.tsv, line 3: document d9 is not in corpus.jsonl; "),
    ("qrels/test.tsv", "q9\td1\t1", "qrels/test.tsv, line 3: query q9 is not in queries.jsonl; "),
    ("qrels/train.tsv", "q3\td1\t0.5", "qrels/train.tsv, line 5: the score 0.5 is not an integer; "),
    ("qrels/train.tsv", "q3 d1 1", "qrels/train.tsv, line 5: 1 fields instead of 3; "),
    ("qrels/train.tsv", "q1\td1\t1", "qrels/train.tsv, line 5: query q1 and document d1 were there before; "),
]


@pytest.mark.parametrize(("name", "line", "sentence"), BAD_LINES)
def test_a_bad_line_is_named_with_its_place(tmp_path, name, line, sentence):
    with pytest.raises(BadInput) as raised:
        read_dataset(write_files(tmp_path, FILES | {name: [*FILES[name], line]}))
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    files = {other: lines for other, lines in FILES.items() if other != name}
    with pytest.raises(BadInput, match=f"has no {name}, gzipped or not;"):
        read_dataset(write_files(tmp_path, files))


def test_broken_gzip_is_bad_input(tmp_path):
    write_files(tmp_path, FILES, gzipped=("queries.jsonl",))
    path = tmp_path / "queries.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"queries\.jsonl\.gz, after line \d: the gzip data is broken; "):
        read_dataset(tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_qrels_without_a_relevant_document_are_bad_input(tmp_path, part):
    with pytest.raises(BadInput, match=f"^qrels/{part}.tsv: no line has a score above 0; "):
        read_dataset(write_files(tmp_path, FILES | {f"qrels/{part}.tsv": ["q1\td1\t0"]}))


def test_train_queries_that_are_all_test_queries_are_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"^qrels/train.tsv: every query is in qrels/test.tsv too; "):
        read_dataset(write_files(tmp_path, FILES | {"qrels/test.tsv": FILES["qrels/train.tsv"]}))


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """600 documents of which 200 answer nothing; 400 train and 200 test queries with one to three of the others."""
    rng = random.Random(1)
    lines = {
        f"q{number}": [f"q{number}\td{place}\t1" for place in rng.sample(range(400), rng.choice((1, 1, 1, 2, 3)))]
        for number in range(600)
    }
    files = {
        "corpus.jsonl": [json.dumps({"_id": f"d{place}", "title": f"title {place}"}) for place in range(600)],
        "queries.jsonl": [json.dumps({"_id": query_id, "text": f"words {query_id}"}) for query_id in lines],
        "qrels/train.tsv": [line for query_id in list(lines)[:400] for line in lines[query_id]],
        "qrels/test.tsv": [line for query_id in list(lines)[400:] for line in lines[query_id]],
    }
    return write_files(tmp_path_factory.mktemp("large"), files)


@settings(max_examples=20)
@given(limit=st.integers(30, 700), most_train=st.integers(1, 500), seed=st.integers(0, 5))
def test_a_cut_data_set_keeps_all_that_its_queries_need(large, limit, most_train, seed):
    whole = read_dataset(large)
    cut = read_dataset(large, max_documents=limit, max_train_queries=most_train, max_test_queries=20, seed=seed)
    kept = {document.document_id for document in cut.documents}

    assert cut.documents == [document for document in whole.documents if document.document_id in kept]
    assert len(kept) == min(limit, 600)
    assert 1 <= len(cut.train_queries) <= most_train
    assert 1 <= len(cut.test_queries) <= 20
    for qrels, all_qrels in ((cut.train_qrels, whole.train_qrels), (cut.test_qrels, whole.test_qrels)):
        for query_id, row in qrels.items():
            assert row == all_qrels[query_id]
            assert relevant_documents(row) <= kept
    assert cut == read_dataset(large, max_documents=limit, max_train_queries=most_train, max_test_queries=20, seed=seed)


def test_a_cut_data_set_keeps_the_proportion_of_train_and_test_and_has_distractors(large):
    for seed in range(5):
        cut = read_dataset(large, max_documents=200, seed=seed)
        queries = len(cut.train_queries) + len(cut.test_queries)
        answers = {name for row in (*cut.train_qrels.values(), *cut.test_qrels.values()) for name in row}
        assert len(cut.train_queries) / queries == pytest.approx(2 / 3, abs=0.1)
        assert len(answers) <= 0.9 * 200  # a distractor may complete a query that was not drawn


def test_another_seed_cuts_otherwise(large):
    assert read_dataset(large, max_documents=200, seed=1) != read_dataset(large, max_documents=200, seed=2)


def test_too_few_documents_for_any_query_are_bad_input(large):
    with pytest.raises(BadInput, match=r"^1 documents are too few to keep queries of train and test; raise the limit"):
        read_dataset(large, max_documents=1)
