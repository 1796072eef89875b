"""
Documents from a corpus file.

In:  a corpus.jsonl in the layout of BEIR (_id, title, text on each line), gzipped or not.
Out: documents, read by daemon.documents; a line that is no document ends the reading with its number.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines
from relevanced.daemon.records import Document

_EXAMPLE: Final = '{"_id": "d1", "title": "...", "text": "..."}'


class _Line(msgspec.Struct):
    """One line; data sets leave the title out, or write null."""

    id: str = msgspec.field(name="_id")
    title: str | None = None
    text: str | None = None


def read_corpus(path: Path) -> Iterator[Document]:
    """
    Read the documents of a file, one by one.

    Raises: BadInput, naming file and line, when the file cannot be read, a line is no document, an id comes twice, or
        there is no document at all.
    """
    decoder = msgspec.json.Decoder(_Line)
    lines_by_id: dict[str, int] = {}
    for number, line in read_lines(path):
        try:
            found = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}, line {number}: {error}; a line should look like {_EXAMPLE}.") from error
        _check(found, f"{path}, line {number}", lines_by_id)
        lines_by_id[found.id] = number
        yield Document(found.id, found.title or "", found.text or "")
    if not lines_by_id:
        raise BadInput(f"{path} holds no documents; each line should look like {_EXAMPLE}.")


def _check(line: _Line, place: str, lines_by_id: dict[str, int]) -> None:
    if not line.id.strip():
        raise BadInput(f"{place}: the _id is empty; give each document an _id of its own.")
    if line.id in lines_by_id:
        raise BadInput(f"{place}: the _id {line.id!r} was on line {lines_by_id[line.id]} already; keep one of the two.")
    if any(value and "\0" in value for value in (line.id, line.title, line.text)):
        raise BadInput(f"{place}: document {line.id!r} holds a NUL character (\\u0000); take it out.")
