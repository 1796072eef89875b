"""
The contrastive step: triplets of one batch to gradients.

In:  triplets.parquet, whole. Out: for each batch the loss, and its gradient in the model's parameters; read by trainer.
Each distinct document of a batch is encoded once, and one that is known to answer a query is never its negative.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy

from relevanced.daemon.encoder import batches_by_length, embed, tokenize


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
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """
    One step: which texts to encode, and how their vectors answer to one another.

    `rows` are token ids, first of the n anchors and then of the m documents. `positive` int64 (n,) is the column of
    each anchor's own document, `excluded` bool (n, m) tells which documents are no negatives of it, `weights` is
    float32 (n,).
    """

    rows: Sequence[Sequence[int]]
    positive: Tensor
    excluded: Tensor
    weights: Tensor


class Batches:
    """Makes batches of triplets whose texts are tokenised once, ahead."""

    def __init__(self, model: SentenceTransformer, triplets: Triplets) -> None:
        self._triplets = triplets
        self._queries = tokenize(model, triplets.queries, "query")
        self._documents = tokenize(model, triplets.documents, "document")

    def of(self, places: Sequence[int]) -> Batch:
        """Give the batch of these triplets, by their places."""
        all_ = self._triplets
        positives = [all_.positives[place] for place in places]
        negatives = [document for place in places for document in all_.negatives[place]]
        columns = {document: column for column, document in enumerate(dict.fromkeys(positives + negatives))}
        excluded = torch.zeros(len(places), len(columns), dtype=torch.bool)
        for row, (place, own) in enumerate(zip(places, positives, strict=True)):
            for document in all_.known[place] - {own}:
                if document in columns:
                    excluded[row, columns[document]] = True
        return Batch(
            rows=[self._queries[all_.anchors[place]] for place in places] + [self._documents[name] for name in columns],
            positive=torch.tensor([columns[document] for document in positives]),
            excluded=excluded,
            weights=torch.tensor([all_.weights[place] for place in places], dtype=torch.float32),
        )


def contrastive_loss(vectors: Tensor, batch: Batch, temperature: float) -> Tensor:
    """
    Cross-entropy of each anchor's own document among all documents of the batch, the weighted mean over anchors.

    Args:
        vectors: float32 (n + m, dimension), unit length, in the order of batch.rows.
    Returns: float32 (), 0 or more.
    Source: Henderson et al., arXiv:1705.00652 (multiple negatives ranking), with hard negatives as further columns;
        InfoNCE of van den Oord et al., arXiv:1807.03748, in one direction, from query to document.
    """
    anchors, documents = vectors[: len(batch.positive)], vectors[len(batch.positive) :]
    logits = (anchors @ documents.T / temperature).masked_fill(batch.excluded.to(vectors.device), float("-inf"))
    losses = cross_entropy(logits, batch.positive.to(vectors.device), reduction="none")
    weights = batch.weights.to(vectors.device)
    return (losses * weights).sum() / weights.sum()


def add_gradients(model: SentenceTransformer, batch: Batch, *, temperature: float, kept_tokens: int) -> float:
    """
    Add the gradient of the batch's loss to the model's parameters.

    Texts go through the model in small batches of similar length: MiniLM on 2 AVX2 cores learns from 15.4 triplets a
    second of 78 tokens each, against 5.0 where each column of the batch is padded to its longest text. The loss needs
    all vectors at once, but back from it each small batch goes alone; one whose activations were not kept is computed
    again, which bounds the memory at any batch size. Without dropout both ways give the same.

    Args:
        kept_tokens: tokens, padding included, whose activations are kept between the two passes.
    Returns: the loss.
    Source: Gao et al., arXiv:2101.06983 (gradient cache), for the part that is not kept.
    """
    small_batches = list(batches_by_length(batch.rows, model.device))
    parts: list[Tensor] = []
    kept = 0
    for places in small_batches:
        kept += len(places) * len(batch.rows[places[-1]])  # the last is the longest
        with torch.set_grad_enabled(kept <= kept_tokens):
            parts.append(embed(model, [batch.rows[place] for place in places]))
    order = torch.tensor([place for places in small_batches for place in places], device=model.device)
    vectors = torch.cat([part.detach() for part in parts])[order.argsort()].requires_grad_()
    loss = contrastive_loss(vectors, batch, temperature)
    (gradient,) = torch.autograd.grad(loss, vectors)
    for places, part in zip(small_batches, parts, strict=True):
        again = part if part.requires_grad else embed(model, [batch.rows[place] for place in places])
        again.backward(gradient[places])  # type: ignore[no-untyped-call]
    return loss.item()
