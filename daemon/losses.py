"""
The losses: unit vectors of a batch to one number.

In:  the vectors of anchors and documents, and what is known of them. Out: the loss that gradients goes back from.
No step here looks at a value on the way, so a GPU can run them as one recorded graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from relevanced.daemon.batches import Answers
from relevanced.daemon.recipe import TrainingPolicy


def batch_loss(vectors: Tensor, answers: Answers, policy: TrainingPolicy) -> Tensor:
    """
    Give the loss of the recipe: that of the full vectors and, with Matryoshka, those of their beginnings.

    Args:
        vectors: float32 (n + m, dimension), unit length: n anchors, then m documents, and whatever fills the batch.
    Returns: float32 (), the weighted mean over dimensions of the weighted mean over anchors.
    Source: Kusupati et al., arXiv:2205.13147 (Matryoshka).
    """
    dimensions, weights = matryoshka(policy, vectors.shape[1])
    losses = [
        weight * _loss(vectors if dimension == vectors.shape[1] else beginnings(vectors, dimension), answers, policy)
        for dimension, weight in zip(dimensions, weights, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def matryoshka(policy: TrainingPolicy, dimension: int) -> tuple[Sequence[int], Sequence[float]]:
    """Give the dimensions that are trained, the full one first, and their weights."""
    shorter = [int(one) for one in policy.matryoshka]
    weights = [float(one) for one in policy.matryoshka_weights or [1.0] * len(shorter)]
    pairs = [(one, weight) for one, weight in zip(shorter, weights, strict=True) if one < dimension]
    return [dimension, *(one for one, _ in pairs)], [1.0, *(weight for _, weight in pairs)]


def beginnings(vectors: Tensor, dimension: int) -> Tensor:
    """Cut vectors to their first dimensions, of unit length again."""
    return normalize(vectors[:, :dimension], dim=1)


def _loss(vectors: Tensor, answers: Answers, policy: TrainingPolicy) -> Tensor:
    n, m = answers.excluded.shape
    scores = vectors[:n] @ vectors[n : n + m].T
    own = scores.gather(1, answers.positive[:, None])
    excluded = answers.excluded
    if policy.mask_above is not None:
        unsure = scores.detach() > own.detach() + policy.mask_above
        excluded = excluded | unsure.scatter(1, answers.positive[:, None], False)
    if policy.loss == "margin":
        losses = margin_losses(scores, own, excluded, answers.positive, policy.margin)
    else:
        losses = contrastive_losses(scores, excluded, answers.positive, policy.temperature)
    return (losses * answers.weights).sum() / answers.weights.sum()


def contrastive_losses(scores: Tensor, excluded: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """
    Cross-entropy of each anchor's own document among those of the batch that are not excluded.

    Args:
        scores: float32 (n, m), cosines; excluded: bool (n, m); positive: int64 (n,), columns.
    Returns: float32 (n,), 0 or more.
    Source: Henderson et al., arXiv:1705.00652 (multiple negatives ranking), with hard negatives as further columns;
        InfoNCE of van den Oord et al., arXiv:1807.03748, in one direction, from query to document.
    """
    return cross_entropy((scores / temperature).masked_fill(excluded, float("-inf")), positive, reduction="none")


def margin_losses(scores: Tensor, own: Tensor, excluded: Tensor, positive: Tensor, margin: float) -> Tensor:
    """
    By how much the hardest other document of the batch comes nearer than the margin behind the own one.

    Args:
        own: float32 (n, 1), the cosine of each anchor's own document; the others as in contrastive_losses.
    Returns: float32 (n,), 0 or more; 0 too where there is no other document.
    Source: Schroff et al., arXiv:1503.03832 (triplet loss); over the hardest of the batch, Hermans et al.,
        arXiv:1703.07737.
    """
    others = scores.masked_fill(excluded.scatter(1, positive[:, None], True), -2.0)  # below any cosine
    return (others.amax(dim=1) - own[:, 0] + margin).clamp(min=0)
