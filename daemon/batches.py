"""
Batches: triplets over numbered texts become what one step encodes, and how its vectors answer to one another.

In:  triplets.parquet, whole. Out: batches; read by gradients.
Each distinct document of a batch is encoded once, and one that is known to answer a query is never its negative.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

Row = npt.NDArray[np.int32]  # the token ids of one text

_AHEAD: Final = 8  # batches that are made while the model learns from one


@dataclass(frozen=True, slots=True)
class Triplets:
    """
    Triplets over numbered texts, each distinct text once.

    `anchors` and `positives` are numbers in `queries` and `documents`, `negatives` lists of such; `known` holds for
    each triplet all documents that answer its query anywhere in the data. Texts are compared rather than ids, so that
    two documents of one text are never set against one another.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    anchors: Sequence[int]
    positives: Sequence[int]
    negatives: Sequence[Sequence[int]]
    known: Sequence[frozenset[int]]
    weights: Sequence[float]
    keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.anchors)

    @classmethod
    def read(cls, file: Path) -> "Triplets":
        rows = pq.read_table(file, columns=["anchor", "positive", "negatives", "query_key", "weight"]).to_pydict()
        queries: dict[str, int] = {}
        documents: dict[str, int] = {}
        anchors = [queries.setdefault(text, len(queries)) for text in rows["anchor"]]
        positives = [documents.setdefault(text, len(documents)) for text in rows["positive"]]
        negatives = [[documents.setdefault(text, len(documents)) for text in texts] for texts in rows["negatives"]]
        answers: defaultdict[str, set[int]] = defaultdict(set)
        for key, positive in zip(rows["query_key"], positives, strict=True):
            answers[key].add(positive)
        return cls(
            queries=list(queries),
            documents=list(documents),
            anchors=anchors,
            positives=positives,
            negatives=negatives,
            known=[frozenset(answers[key]) for key in rows["query_key"]],
            weights=rows["weight"],
            keys=rows["query_key"],
        )

    def with_negatives(self, most: int | None) -> "Triplets":
        """Keep the first negatives of each, at most so many; the documents stay, for what is ranked in validation."""
        return self if most is None else replace(self, negatives=[texts[:most] for texts in self.negatives])


@dataclass(frozen=True, slots=True)
class Answers:
    """
    How the vectors of a batch answer to one another.

    `positive` int64 (n,) is the column of each anchor's own document, `excluded` bool (n, m) tells which documents are
    no negatives of it, `weights` is float32 (n,).
    """

    positive: Tensor
    excluded: Tensor
    weights: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.positive, self.excluded, self.weights


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: the token ids of what is encoded, first the n anchors and then the m documents, and the answers."""

    rows: Sequence[Row]
    answers: Answers

    @property
    def tokens(self) -> int:
        return sum(map(len, self.rows))


class Rows:
    """The token ids of texts, each tokenised once, when it is first asked for."""

    def __init__(self, texts: Sequence[str], tokenize: Callable[[Sequence[str]], Sequence[Row]]) -> None:
        self._texts, self._tokenize = texts, tokenize
        self._rows: list[Row | None] = [None] * len(texts)
        self._lock = Lock()

    def of(self, places: Sequence[int]) -> list[Row]:
        """Give the rows of these texts, by their places."""
        with self._lock:
            missing = [place for place in dict.fromkeys(places) if self._rows[place] is None]
            for place, made in zip(missing, self._tokenize([self._texts[place] for place in missing]), strict=True):
                self._rows[place] = made
        return [row for place in places if (row := self._rows[place]) is not None]


class Batches:
    """Makes batches of triplets."""

    def __init__(self, triplets: Triplets, queries: Rows, documents: Rows) -> None:
        self._triplets, self._queries, self._documents = triplets, queries, documents
        self.most_documents = 1 + max(map(len, triplets.negatives), default=0)  # of one triplet

    def of(self, places: Sequence[int]) -> Batch:
        """Give the batch of these triplets, by their places."""
        all_ = self._triplets
        positives = [all_.positives[place] for place in places]
        negatives = [document for place in places for document in all_.negatives[place]]
        columns = {document: column for column, document in enumerate(dict.fromkeys(positives + negatives))}
        excluded = np.zeros((len(places), len(columns)), dtype=np.bool_)
        for row, (place, own) in enumerate(zip(places, positives, strict=True)):
            for document in all_.known[place] - {own}:
                if document in columns:
                    excluded[row, columns[document]] = True
        rows = self._queries.of([all_.anchors[place] for place in places]) + self._documents.of(list(columns))
        answers = Answers(
            positive=torch.tensor([columns[document] for document in positives]),
            excluded=torch.from_numpy(excluded),
            weights=torch.tensor([all_.weights[place] for place in places], dtype=torch.float32),
        )
        return Batch(rows, answers)


def ahead(batches: Batches, order: Iterable[Sequence[int]]) -> Iterator[tuple[Sequence[int], Batch]]:
    """Yield the triplets of each step and their batch, while a thread makes those of the next steps."""
    with ThreadPoolExecutor(1, "batches") as pool:
        made: deque[tuple[Sequence[int], Future[Batch]]] = deque()
        try:
            for places in order:
                made.append((places, pool.submit(batches.of, places)))
                if len(made) > _AHEAD:
                    first, batch = made.popleft()
                    yield first, batch.result()
            for first, batch in made:
                yield first, batch.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def filled(batch: Batch, anchors: int, documents: int) -> Batch:
    """
    Bring a batch to a fixed number of anchors and documents, with texts of one token that count for nothing.

    Every batch then has one shape, which a GPU can run as one recorded graph.
    """
    n, m = batch.answers.excluded.shape
    positive, excluded, weights = batch.answers.tensors()
    answers = Answers(
        positive=torch.cat([positive, positive.new_zeros(anchors - n)]),
        excluded=torch.nn.functional.pad(excluded, (0, documents - m, 0, 0), value=True),
        weights=torch.cat([weights, weights.new_zeros(anchors - n)]),
    )
    answers = Answers(
        answers.positive, torch.nn.functional.pad(answers.excluded, (0, 0, 0, anchors - n)), answers.weights
    )
    blank = [batch.rows[0][:1]]
    rows = [*batch.rows[:n], *blank * (anchors - n), *batch.rows[n:], *blank * (documents - m)]
    return Batch(rows, answers)
