"""A corpus file, and the text that a model reads of a document."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.consumers.documents import read_corpus
from relevanced.daemon.documents import document_text
from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Document

GOOD = '{"_id": "d1", "title": "Fever", "text": "A raised temperature."}'


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_a_corpus_is_read_gzipped_or_not_whatever_its_name(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "corpus.data"
    text = ("\ufeff" + GOOD + "\n\n" + '{"_id": "d2", "title": null, "text": "Cough.", "metadata": {}}\n').encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    assert list(read_corpus(path)) == [
        Document("d1", "Fever", "A raised temperature."),
        Document("d2", "", "Cough."),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"_id": "d2", "title": "x"', "truncated"),
        ('{"title": "x", "text": "y"}', "missing required field `_id`"),
        ('{"_id": 7, "text": "y"}', "Expected `str`, got `int`"),
        ('["d2", "x", "y"]', "Expected `object`, got `array`"),
        ('{"_id": " ", "text": "y"}', "the _id is empty"),
        ('{"_id": "d1", "text": "y"}', "the _id 'd1' was on line 1 already"),
        ('{"_id": "d2", "text": "a\\u0000b"}', "NUL character"),
        ('{"_id": "d2", "text": "\\ud800"}', "truncated"),
        ('{"_id": "d2", "text": "\udcff"}', "invalid start byte"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path, GOOD, "", line)
    with pytest.raises(BadInput, match=rf"corpus\.jsonl, line 3: .*({reason})") as caught:
        list(read_corpus(path))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing\.jsonl does not exist"):
        list(read_corpus(tmp_path / "missing.jsonl"))
    with pytest.raises(BadInput, match=r"cannot be read: Is a directory"):
        list(read_corpus(tmp_path))
    with pytest.raises(BadInput, match=r"corpus\.jsonl holds no documents"):
        list(read_corpus(written(tmp_path, "", " ")))


def test_a_gzip_file_that_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    whole = gzip.compress("\n".join(json.dumps({"_id": str(n), "text": "x"}) for n in range(5000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"corpus\.jsonl\.gz, after line \d+: the gzip data is broken"):
        list(read_corpus(path))


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Fever", "A raised temperature.", "Fever. A raised temperature."),
        ("What is fever?", "It is heat.", "What is fever? It is heat."),
        ("Fever", " ", "Fever"),
        ("", "A raised temperature.", "A raised temperature."),
        ("", "", ""),
    ],
)
def test_a_title_is_the_first_sentence_of_the_text(title: str, text: str, expected: str) -> None:
    assert document_text(title, text) == expected


@given(st.text(), st.text())
def test_nothing_but_white_space_is_lost_in_the_text(title: str, text: str) -> None:
    joined = document_text(title, text)
    assert title.strip() in joined
    assert text.strip() in joined
