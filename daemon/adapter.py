"""
A query-side adapter: a matrix on the query encoder's vectors, taught in seconds, that needs no new index.

In:  vectors of queries and documents, and triplets over them. Out: the matrix; adapting makes a version of it.
The vectors of the documents stay as they are, so the index that holds them answers for the adapter too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from relevanced.daemon.losses import contrastive_losses
from relevanced.daemon.ports import Vectors
from relevanced.daemon.worth import AdapterPolicy

CELLS: Final = 2**24  # cosines of checking queries with documents at once, 64 MB

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """
    Triplets over numbered vectors.

    `queries` float32 (n_queries, d) and `documents` float32 (n_documents, d) are of unit length. For each of n
    triplets, `anchors` and `positives` int64 (n,) are places in them, `negatives` the places of its hard negatives,
    `known` all documents that answer its query anywhere in the data, and `weights` float32 (n,) how much it counts.
    `checks` bool (n,) says whose query is not learned from, and tells when to stop.
    """

    queries: Vectors
    documents: Vectors
    anchors: Places
    positives: Places
    negatives: Sequence[Sequence[int]]
    known: Sequence[frozenset[int]]
    weights: Vectors
    checks: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Adapter:
    """
    What was learned: `matrix` float32 (d, d), for adapted.adapt.

    loss, plain_loss: of the checking queries with the matrix, and with the identity it began as. Where they are alike,
    nothing was better for other queries than those that were learned from, and the matrix is the identity.
    """

    matrix: Vectors
    epochs: int
    loss: float
    plain_loss: float

    @property
    def learned(self) -> bool:
        """Whether anything was learned that holds for other queries too."""
        return self.loss < self.plain_loss


def train_adapter(examples: Examples, policy: AdapterPolicy) -> Adapter:
    """
    Learn a matrix from the triplets that do not check, beginning with the identity; give the best for those that do.

    The loss is that of the full fine-tuning (see losses), but the documents stay where they are. The same examples
    and policy give the same matrix on the same machine.

    Raises: ValueError unless there are triplets that count on either side.
    Source: Yoon et al., Search-Adaptor, arXiv:2310.08750, for adapters on frozen vectors; here linear, on the queries'
        side alone, and drawn to the identity by AdamW's decoupled decay (arXiv:1711.05101) of what is added to it.
    """
    learned, checking = (np.flatnonzero((examples.checks == side) & (examples.weights > 0)) for side in (False, True))
    if not len(learned) or not len(checking):
        raise ValueError("An adapter needs triplets to learn from, and triplets of other queries to check by.")
    added = _Added(examples.queries.shape[1], policy)
    optimizer = torch.optim.AdamW(added.parameters, lr=policy.learning_rate, weight_decay=policy.pull)
    best = added.matrix().detach()
    loss = plain_loss = _check(examples, checking, best, policy)
    epoch = best_epoch = 0
    while epoch < min(policy.epochs, best_epoch + policy.patience):
        for places in _batches(learned, epoch, policy):
            optimizer.zero_grad()
            hard = [document for place in places for document in examples.negatives[place]]
            columns = np.unique(np.concatenate([examples.positives[places], np.array(hard, dtype=np.int64)]))
            _loss(examples, places, columns, added.matrix(), policy.temperature).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        epoch += 1
        found = _check(examples, checking, added.matrix().detach(), policy)
        if found < loss:
            best, loss, best_epoch = added.matrix().detach(), found, epoch
    return Adapter(best.numpy(), best_epoch, loss, plain_loss)


class _Added:
    """What is added to the identity: any matrix, or one of low rank; nothing at first."""

    def __init__(self, dimension: int, policy: AdapterPolicy) -> None:
        self._identity = torch.eye(dimension)
        if policy.rank:
            # One factor begins at 0 and the other does not, as in LoRA: of two zeros neither had a gradient.
            generator = torch.Generator().manual_seed(policy.seed)
            first = torch.randn(dimension, policy.rank, generator=generator) / math.sqrt(dimension)
            self.parameters = [first.requires_grad_(), torch.zeros(policy.rank, dimension, requires_grad=True)]
        else:
            self.parameters = [torch.zeros(dimension, dimension, requires_grad=True)]

    def matrix(self) -> Tensor:
        first, *second = self.parameters
        return self._identity + (first @ second[0] if second else first)


def _batches(learned: Places, epoch: int, policy: AdapterPolicy) -> Iterator[Places]:
    order = np.random.default_rng([policy.seed, epoch]).permutation(learned)
    yield from np.array_split(order, math.ceil(len(order) / policy.batch_size))


def _check(examples: Examples, checking: Places, matrix: Tensor, policy: AdapterPolicy) -> float:
    """Give the mean loss of the checking triplets among all documents, as a search ranks them."""
    everything, total = np.arange(len(examples.documents)), 0.0
    for places in np.array_split(checking, math.ceil(len(checking) * len(everything) / CELLS)):
        if len(places):
            loss = _loss(examples, places, everything, matrix, policy.temperature)
            total += loss.item() * float(examples.weights[places].sum())
    return total / float(examples.weights[checking].sum())


def _loss(examples: Examples, places: Places, columns: Places, matrix: Tensor, temperature: float) -> Tensor:
    """
    Cross-entropy of each triplet's own document among some documents, the weighted mean over triplets.

    Args:
        columns: those documents in rising order, the triplets' own among them; another answer to a query, if it is
            there, is no negative of it.
    """
    own = examples.positives[places]
    others = [
        (row, document)
        for row, place in enumerate(places)
        for document in examples.known[place]
        if document != examples.positives[place]
    ]
    rows, documents = np.array(others, dtype=np.int64).reshape(-1, 2).T
    there = np.isin(documents, columns)
    excluded = torch.zeros(len(places), len(columns), dtype=torch.bool)
    excluded[rows[there], np.searchsorted(columns, documents[there])] = True

    queries = torch.from_numpy(examples.queries[examples.anchors[places]])
    cosines = normalize(queries @ matrix, dim=1) @ torch.from_numpy(examples.documents[columns]).T
    losses = contrastive_losses(cosines, excluded, torch.from_numpy(np.searchsorted(columns, own)), temperature)
    weights = torch.from_numpy(examples.weights[places])
    return (losses * weights).sum() / weights.sum()
