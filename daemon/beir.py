"""
Queries and qrels from a folder in BEIR layout.

In:  queries.jsonl and a file of qrels such as qrels/test.tsv, any of them gzipped (NAME.gz).
Out: texts and scores by query; read by judged_queries, and by the rehearsal for its data sets.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines

Qrels = Mapping[str, Mapping[str, int]]  # query id -> document id -> score, relevant above 0


class _QueryLine(msgspec.Struct):
    query_id: str = msgspec.field(name="_id")
    text: str


def read_queries(directory: Path) -> dict[str, str]:
    """
    Read queries.jsonl: query id -> text.

    Raises: BadInput, one sentence with file and line, for whatever cannot be used.
    """
    texts: dict[str, str] = {}
    for number, line in _lines(directory, "queries.jsonl"):
        place = f"queries.jsonl, line {number}"
        try:
            query = msgspec.json.decode(line, type=_QueryLine)
        except msgspec.DecodeError as error:
            raise BadInput(f'{place}: {error}; write a line as {{"_id": "q1", "text": "lazy eye"}}.') from None
        if query.query_id in texts:
            raise BadInput(f"{place}: query {query.query_id} was there before; give each query an _id of its own.")
        if not query.text.strip():
            raise BadInput(f"{place}: query {query.query_id} has no text; write its words or remove the line.")
        texts[query.query_id] = query.text
    return texts


def read_qrels(
    directory: Path, name: str, queries: Collection[str], documents: Collection[str] | None = None
) -> dict[str, dict[str, int]]:
    """
    Read a file of qrels; a query without a relevant document is left out.

    Args:
        name: of the file in the directory, such as qrels/test.tsv.
        queries: those that a line may name.
        documents: likewise; None: any, since the corpus of the data set is not what is searched.
    Raises: BadInput, one sentence with file and line, for whatever cannot be used.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(directory, name):
        place, fields = f"{name}, line {number}", line.split("\t")
        if len(fields) != 3:
            raise BadInput(f"{place}: {len(fields)} fields instead of 3; write query-id, corpus-id, score with tabs.")
        query_id, document_id, score = fields
        if number == 1 and score == "score":
            continue
        if query_id not in queries:
            raise BadInput(f"{place}: query {query_id} is not in queries.jsonl; remove the line or add the query.")
        if documents is not None and document_id not in documents:
            raise BadInput(
                f"{place}: document {document_id} is not in corpus.jsonl; remove the line or add the document."
            )
        row = qrels.setdefault(query_id, {})
        if document_id in row:
            raise BadInput(f"{place}: query {query_id} and document {document_id} were there before; keep one line.")
        try:
            row[document_id] = int(score)
        except ValueError:
            raise BadInput(f"{place}: the score {score} is not an integer; write 1 for relevant, 0 for not.") from None
    qrels = {query_id: row for query_id, row in qrels.items() if relevant_documents(row)}
    if not qrels:
        raise BadInput(f"{name}: no line has a score above 0; add the relevant documents of at least one query.")
    return qrels


def relevant_documents(row: Mapping[str, int]) -> set[str]:
    """The documents of one query's qrels with a score above 0."""
    return {document_id for document_id, score in row.items() if score > 0}


def file_of(directory: Path, name: str) -> Path:
    """
    Find a file of the data set, gzipped or not.

    Raises: BadInput when there is none.
    """
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise BadInput(f"{directory} has no {name}, gzipped or not; a data set in BEIR layout needs one.")


def _lines(directory: Path, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    number = 0
    try:
        for number, line in read_lines(file_of(directory, name)):
            yield number, line.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}, after line {number}: {error}; write the file again, in UTF-8.") from None
