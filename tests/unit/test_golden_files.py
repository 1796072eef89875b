"""Golden judgments are read whole or refused with one sentence, and what is written is read again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.errors import BadInput
from relevanced.daemon.golden import MAX_PAIR_BYTES, GoldenJudgment
from relevanced.daemon.golden_files import read_judgments, write_lines

LINE = {"user_query": "lazy eye", "document_id": "d1", "grade": 2}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80).filter(
    lambda text: text.strip() != ""
)


def read_lines_of(directory: Path, *lines: dict[str, Any]) -> list[GoldenJudgment]:
    file = directory / "judged.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return list(read_judgments(file, "test"))


def folder(directory: Path, *qrels: str) -> Path:
    (directory / "qrels").mkdir()
    lines = [
        json.dumps({"_id": f"q{number}", "text": text})
        for number, text in enumerate(["lazy eye", "drooping eyelid"], start=1)
    ]
    (directory / "queries.jsonl").write_text("\n".join(lines))
    (directory / "qrels" / "dev.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]))
    return directory


@given(st.dictionaries(st.tuples(TEXTS, TEXTS), st.tuples(st.floats(0, 100), st.booleans()), min_size=1))
def test_what_is_written_is_read_again(tmp_path_factory, grades):
    file = tmp_path_factory.mktemp("golden") / "judged.jsonl"
    rows = [GoldenJudgment(*pair, *grade) for pair, grade in grades.items()]
    write_lines(file, [row._asdict() for row in rows])
    assert list(read_judgments(file, "test")) == rows


def test_what_else_stands_on_a_line_is_passed_over_and_so_is_a_line_without_a_grade(tmp_path):
    rows = read_lines_of(tmp_path, {**LINE, "title": "Amblyopia"}, {**LINE, "document_id": "d2", "grade": None})
    assert rows == [GoldenJudgment("lazy eye", "d1", 2.0)]


def test_a_data_set_is_read_without_its_documents_and_by_the_texts_of_its_queries(tmp_path):
    data = folder(tmp_path, "q1\td1\t2", "q1\td2\t-1", "q2\td1\t1")
    assert list(read_judgments(data, "dev")) == [
        GoldenJudgment("lazy eye", "d1", 2.0),
        GoldenJudgment("lazy eye", "d2", 0.0),
        GoldenJudgment("drooping eyelid", "d1", 1.0),
    ]


def test_a_split_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"has no qrels/test\.tsv, gzipped or not;"):
        list(read_judgments(folder(tmp_path, "q1\td1\t2"), "test"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"grade": -1}, "the grade -1 is not between 0 and 100;"),
        ({"grade": 101}, "the grade 101 is not between 0 and 100;"),
        ({"grade": "2"}, "Expected `float | null`, got `str`"),
        ({"grade": True}, "Expected `float | null`, got `bool`"),
        ({"user_query": " "}, "a judgment needs a query and a document;"),
        ({"document_id": ""}, "a judgment needs a query and a document;"),
        ({"document_id": "d\0"}, "a NUL character"),
        ({"user_query": "é" * (MAX_PAIR_BYTES // 2)}, "query and document_id have more than 2,000 bytes together;"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, change, problem):
    with pytest.raises(BadInput, match=r"judged\.jsonl, line 2: ") as raised:
        read_lines_of(tmp_path, {**LINE, "document_id": "d0"}, {**LINE, **change})
    assert problem in str(raised.value)


@pytest.mark.parametrize("lines", [[], [{**LINE, "grade": None}]])
def test_a_file_without_judgments_is_refused(tmp_path, lines):
    with pytest.raises(BadInput, match=r"judged\.jsonl holds no judgments; write a line as"):
        read_lines_of(tmp_path, *lines)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(
        BadInput,
        match=r"away/judged\.jsonl cannot be written: No such file or directory; name a file in a folder with room\.$",
    ):
        write_lines(tmp_path / "away" / "judged.jsonl", [LINE])
