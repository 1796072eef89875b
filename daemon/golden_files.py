"""
Judgments in files: a data set in BEIR layout, or lines of JSON.

In:  a path. Out: GoldenJudgments, read by golden load; or such lines, of judgments or of pairs to be judged.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from relevanced.daemon.beir import read_qrels, read_queries
from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines, write_asked
from relevanced.daemon.golden import MAX_PAIR_BYTES, GoldenJudgment

# A scale of percent. Beside a larger grade all others would vanish, for they are shares of the largest.
MAX_GRADE: Final = 100
_EXAMPLE: Final = '{"user_query": "lazy eye", "document_id": "d1", "grade": 1}'


class _Line(msgspec.Struct):
    """One line; what else stands there, such as a title, is for people."""

    user_query: str
    document_id: str
    grade: float | None
    wished: bool = False  # as `golden wanted` writes


def read_judgments(path: Path, split: str) -> Iterator[GoldenJudgment]:
    """
    Yield the judgments of a file, or of a directory in BEIR layout.

    A line whose grade is null is not judged yet, and is passed over. In a directory a score below 0 is 0.

    Args:
        split: which of the directory's qrels: qrels/SPLIT.tsv.
    Raises: BadInput, one sentence with file and line, for whatever cannot be used, and when there is no judgment.
    """
    if path.is_dir():
        name = f"qrels/{split}.tsv"
        queries = read_queries(path)
        for query_id, row in read_qrels(path, name, queries).items():
            for document_id, grade in row.items():
                yield _checked(name, GoldenJudgment(queries[query_id], document_id, max(float(grade), 0.0)))
        return
    decoder, found = msgspec.json.Decoder(_Line), False
    for number, text in read_lines(path):
        place = f"{path.name}, line {number}"
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{place}: {error}; write a line as {_EXAMPLE}.") from None
        if line.grade is not None:
            found = True
            yield _checked(place, GoldenJudgment(line.user_query, line.document_id, line.grade, line.wished))
    if not found:
        raise BadInput(f"{path.name} holds no judgments; write a line as {_EXAMPLE}.")


def write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """
    Write lines that `read_judgments` reads: all of them, or no file.

    Raises: BadInput when the file cannot be written.
    """
    write_asked(file, "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines))


def _checked(place: str, row: GoldenJudgment) -> GoldenJudgment:
    if not row.user_query.strip() or not row.document_id.strip():
        raise BadInput(f"{place}: a judgment needs a query and a document; add what is missing, or remove the line.")
    if "\0" in row.user_query or "\0" in row.document_id:
        raise BadInput(f"{place}: a NUL character (\\u0000) stands in the query or the document_id; take it out.")
    if len(row.user_query.encode()) + len(row.document_id.encode()) > MAX_PAIR_BYTES:
        raise BadInput(
            f"{place}: query and document_id have more than {MAX_PAIR_BYTES:,} bytes together; shorten them."
        )
    if not 0 <= row.grade <= MAX_GRADE:
        raise BadInput(f"{place}: the grade {row.grade:g} is not between 0 and {MAX_GRADE}; 0 is for no answer at all.")
    return row
