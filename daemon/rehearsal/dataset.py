"""
A labelled data set from a folder in BEIR layout.

In:  corpus.jsonl, queries.jsonl, qrels/train.tsv and qrels/test.tsv, any of them gzipped (NAME.gz).
Out: a Dataset, whole or cut to a smaller one. The documents are loaded, the train queries typed by the searchers, the
     test queries only measured.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from relevanced.consumers.documents import read_corpus
from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.records import Document

Qrels = Mapping[str, Mapping[str, int]]

# Of max_documents; the rest are distractors, so that a small corpus too holds documents that answer nothing.
JUDGED_SHARE: Final = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Documents, queries (id -> text) and qrels (query id -> document id -> score, relevant above 0)."""

    name: str
    documents: Sequence[Document]
    train_queries: Mapping[str, str]
    test_queries: Mapping[str, str]
    train_qrels: Qrels
    test_qrels: Qrels


class _QueryLine(msgspec.Struct):
    query_id: str = msgspec.field(name="_id")
    text: str


def read_dataset(
    directory: Path,
    *,
    max_documents: int | None = None,
    max_train_queries: int | None = None,
    max_test_queries: int | None = None,
    seed: int = 0,
) -> Dataset:
    """
    Read a data set, and cut it down where a limit says so; the same seed cuts the same.

    Queries without a relevant document are left out, for nobody could find anything; so are near-duplicates of a test
    query (queries.cluster_key) among the train queries, for then the searchers would type a test query in other words.

    Raises: BadInput, one sentence with file and line, for whatever cannot be used.
    """
    documents = list(read_corpus(_file(directory, "corpus.jsonl")))
    texts = _read_queries(directory)
    known = {document.document_id for document in documents}
    train_qrels = _read_qrels(directory, "qrels/train.tsv", texts, known)
    test_qrels = _read_qrels(directory, "qrels/test.tsv", texts, known)
    clusters = {query_id: cluster_key(query_key(text)) for query_id, text in texts.items()}
    tested = {clusters[query_id] for query_id in test_qrels}
    train_qrels = {query_id: row for query_id, row in train_qrels.items() if clusters[query_id] not in tested}
    if not train_qrels:
        raise BadInput("qrels/train.tsv: every query is in qrels/test.tsv too; take some out of it, to train on them.")

    rng = np.random.default_rng(seed)
    if max_documents is not None and max_documents < len(documents):
        documents = _cut_documents(documents, [*train_qrels.values(), *test_qrels.values()], max_documents, rng)
        known = {document.document_id for document in documents}
        train_qrels, test_qrels = within(train_qrels, known), within(test_qrels, known)
        if not train_qrels or not test_qrels:
            raise BadInput(f"{max_documents} documents are too few to keep queries of train and test; raise the limit.")
    train_qrels = _cut_queries(train_qrels, max_train_queries, rng)
    test_qrels = _cut_queries(test_qrels, max_test_queries, rng)
    return Dataset(
        name=directory.resolve().name,
        documents=documents,
        train_queries={query_id: texts[query_id] for query_id in train_qrels},
        test_queries={query_id: texts[query_id] for query_id in test_qrels},
        train_qrels=train_qrels,
        test_qrels=test_qrels,
    )


def relevant_documents(row: Mapping[str, int]) -> set[str]:
    """The documents of one query's qrels with a score above 0."""
    return {document_id for document_id, score in row.items() if score > 0}


def _cut_documents(
    documents: Sequence[Document], judged: Sequence[Mapping[str, int]], limit: int, rng: np.random.Generator
) -> list[Document]:
    """
    Keep `limit` documents, in their order.

    Queries of train and test are drawn together, which keeps their proportion, and bring all their relevant documents,
    up to JUDGED_SHARE of the limit; the rest are drawn from all other documents.
    """
    kept: set[str] = set()
    for place in rng.permutation(len(judged)):
        more = relevant_documents(judged[place]) - kept
        if len(kept) + len(more) <= limit * JUDGED_SHARE:
            kept |= more
    others = [document.document_id for document in documents if document.document_id not in kept]
    kept.update(others[place] for place in rng.permutation(len(others))[: limit - len(kept)])
    return [document for document in documents if document.document_id in kept]


def within(qrels: Qrels, known: Collection[str]) -> dict[str, dict[str, int]]:
    """Keep the queries whose relevant documents are all known, and of their scores those of known documents."""
    return {
        query_id: {document_id: score for document_id, score in row.items() if document_id in known}
        for query_id, row in qrels.items()
        if relevant_documents(row).issubset(known)
    }


def _cut_queries(
    qrels: dict[str, dict[str, int]], limit: int | None, rng: np.random.Generator
) -> dict[str, dict[str, int]]:
    """Keep at most `limit` queries, drawn at random, in their order."""
    drawn = set(rng.permutation(len(qrels))[:limit].tolist())
    return {query_id: row for place, (query_id, row) in enumerate(qrels.items()) if place in drawn}


def _read_queries(directory: Path) -> dict[str, str]:
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


def _read_qrels(
    directory: Path, name: str, queries: Collection[str], documents: Collection[str]
) -> dict[str, dict[str, int]]:
    """The qrels of the queries that have a relevant document."""
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
        if document_id not in documents:
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


def _file(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise BadInput(f"{directory} has no {name}, gzipped or not; a data set in BEIR layout needs one.")


def _lines(directory: Path, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    number = 0
    try:
        for number, line in read_lines(_file(directory, name)):
            yield number, line.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}, after line {number}: {error}; write the file again, in UTF-8.") from None
