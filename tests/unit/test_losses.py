"""What the losses say of vectors, and that they say the same of batches that were filled up."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from relevanced.daemon.batches import Answers, Batch, filled
from relevanced.daemon.losses import batch_loss
from relevanced.daemon.recipe import TrainingPolicy

HALF = TrainingPolicy(temperature=0.5)


def answers(positive, excluded, weights):
    return Answers(torch.tensor(positive), torch.tensor(excluded), torch.tensor(weights, dtype=torch.float32))


@pytest.fixture
def vectors():
    return torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]])


@pytest.fixture
def two():
    return answers([0, 1], [[False, False, True], [False, False, False]], [3.0, 1.0])


def test_the_contrastive_loss_is_the_weighted_mean_of_the_cross_entropies(vectors, two):
    first = math.log(1 + math.exp(-2))  # cosines 1 and 0 at temperature .5; the third document does not count
    second = math.log(1 + 2 * math.exp(-2))
    assert batch_loss(vectors, two, HALF).item() == pytest.approx((3 * first + second) / 4, rel=1e-6)


def test_the_margin_loss_is_how_far_the_hardest_other_document_is_inside_the_margin(two):
    vectors = normalize(torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 1], [1, 0]]), dim=1)
    policy = TrainingPolicy(loss="margin", margin=0.5)
    hardest = math.sqrt(0.5)  # of the first anchor; the second has its own document there, and others at cosine 0
    expected = (3 * max(hardest - 1 + 0.5, 0) + max(0 - hardest + 0.5, 0)) / 4
    assert batch_loss(vectors, two, policy).item() == pytest.approx(expected, rel=1e-5)


def test_an_anchor_whose_document_stands_alone_in_its_batch_costs_no_margin():
    vectors = torch.tensor([[1.0, 0], [0, 1]])
    assert batch_loss(vectors, answers([0], [[False]], [1.0]), TrainingPolicy(loss="margin")).item() == 0


def test_a_document_nearer_than_the_own_one_is_no_negative_where_that_is_wanted(vectors):
    alone = answers([1], [[False, False, False]], [1.0])
    vectors = vectors[[0, 2, 3, 4]]  # the own document at cosine 0, two others at cosine 1
    assert batch_loss(vectors, alone, replace(HALF, mask_above=0.5)).item() == pytest.approx(0, abs=1e-6)
    assert batch_loss(vectors, alone, replace(HALF, mask_above=1.5)).item() > 1


def test_matryoshka_is_the_weighted_mean_over_the_beginnings():
    torch.manual_seed(0)
    vectors = normalize(torch.randn(6, 8), dim=1)
    three = answers([0, 1, 2], [[False] * 3] * 3, [1.0] * 3)
    parts = [batch_loss(normalize(vectors[:, :size], dim=1), three, HALF).item() for size in (8, 4, 2)]
    policy = replace(HALF, matryoshka=(4, 2), matryoshka_weights=(1.0, 0.5))
    assert batch_loss(vectors, three, policy).item() == pytest.approx(
        (parts[0] + parts[1] + 0.5 * parts[2]) / 2.5, rel=1e-5
    )


@given(
    st.integers(1, 6),
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from(["contrastive", "margin"]),
)
def test_what_fills_a_batch_up_counts_for_nothing(n, more, anchors, documents, loss):
    torch.manual_seed(n * 100 + more)
    m = n + more
    rows = [torch.arange(3).numpy() for _ in range(n + m)]
    known = answers(list(range(n)), (torch.rand(n, m) < 0.3).tolist(), torch.rand(n).add(0.1).tolist())
    known.excluded[range(n), range(n)] = False
    full = filled(Batch(rows, known), n + anchors, m + documents)
    vectors = normalize(torch.randn(n + m, 8), dim=1)
    others = normalize(torch.randn(anchors + documents, 8), dim=1)
    spread = torch.cat([vectors[:n], others[:anchors], vectors[n:], others[anchors:]])
    policy = TrainingPolicy(loss=loss, temperature=0.5)
    assert len(full.rows) == len(spread)
    torch.testing.assert_close(batch_loss(spread, full.answers, policy), batch_loss(vectors, known, policy))
