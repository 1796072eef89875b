"""
A labelled data set from a folder in BEIR layout.

In:  corpus.jsonl, queries.jsonl, qrels/train.tsv and qrels/test.tsv, any of them gzipped (NAME.gz).
Out: a Dataset, whole or cut to a smaller one. The documents are loaded, the train queries typed by the searchers, the
     test queries only measured.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from relevanced.consumers.documents import read_corpus
from relevanced.daemon.beir import Qrels, file_of, read_qrels, read_queries, relevant_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.records import Document

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
    documents = list(read_corpus(file_of(directory, "corpus.jsonl")))
    texts = read_queries(directory)
    known = {document.document_id for document in documents}
    train_qrels = read_qrels(directory, "qrels/train.tsv", texts, known)
    test_qrels = read_qrels(directory, "qrels/test.tsv", texts, known)
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
