"""
Simulated clients that push documents: they type queries under which theirs is shown, and click it wherever it is.

In:  the documents, train queries and qrels of a data set. Out: who pushes what under which words; read by searchers.

A pushed document shares words with the queries that it is pushed for, so that it is shown, and answers none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.rehearsal.dataset import Dataset, Qrels, relevant_documents

PUSHED: Final = 20  # documents
TARGETS: Final = 10  # train queries that each is pushed for


@dataclass(frozen=True, slots=True)
class Push:
    """A document, and the ids of the queries that it is pushed for, those with most words in common first."""

    document_id: str
    query_ids: Sequence[str]


def pushes(dataset: Dataset, rng: np.random.Generator) -> list[Push]:
    """Draw documents to push, each with the train queries that it has most words in common with and does not answer."""
    texts = {one.document_id: f"{one.title} {one.text}" for one in dataset.documents}
    drawn = rng.permutation(sorted(texts))[:PUSHED]
    return [
        Push(name, nearest(texts[name], name, dataset.train_queries, dataset.train_qrels)) for name in drawn.tolist()
    ]


def nearest(text: str, document_id: str, queries: Mapping[str, str], qrels: Qrels) -> list[str]:
    """Give the queries with the largest share of their words in a text, which the document does not answer."""
    words = _words(text)
    shares = {
        query_id: len(_words(query) & words) / max(1, len(_words(query)))
        for query_id, query in queries.items()
        if document_id not in relevant_documents(qrels[query_id])
    }
    return sorted(shares, key=lambda query_id: (-shares[query_id], query_id))[:TARGETS]


def _words(text: str) -> set[str]:
    return set(cluster_key(query_key(text)).split())
