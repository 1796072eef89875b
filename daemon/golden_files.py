"""
Judgments in files: a data set in BEIR layout, or lines of JSON.

In:  a path. Out: GoldenJudgments; read by the commands golden load and export.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from relevanced.daemon.beir import read_qrels, read_queries
from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines
from relevanced.daemon.golden import GoldenJudgment


class _Line(msgspec.Struct):
    user_query: str
    document_id: str
    grade: float


def read_judgments(path: Path, split: str) -> Iterator[GoldenJudgment]:
    """
    Yield the judgments of a file, or of a directory in BEIR layout.

    Args:
        split: which of the directory's qrels: qrels/SPLIT.tsv.
    Raises: BadInput, one sentence with file and line, for whatever cannot be used.
    """
    if path.is_dir():
        queries = read_queries(path)
        for query_id, row in read_qrels(path, f"qrels/{split}.tsv", queries).items():
            for document_id, grade in row.items():
                yield GoldenJudgment(queries[query_id], document_id, max(float(grade), 0.0))
        return
    for number, line in read_lines(path):
        place = f"{path.name}, line {number}"
        try:
            row = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(
                f'{place}: {error}; write a line as {{"user_query": "lazy eye", "document_id": "d1", "grade": 1}}.'
            ) from None
        if not row.user_query.strip() or not row.document_id or not 0 <= row.grade < float("inf"):
            raise BadInput(
                f"{place}: a judgment needs a query, a document and a grade from 0; mend or remove the line."
            )
        yield GoldenJudgment(row.user_query, row.document_id, row.grade)
