"""What counts as a negative, and that thrift with memory and padding does not change the gradient."""

import math
from contextlib import nullcontext

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from relevanced.daemon.contrastive import Batch, Batches, Triplets, add_gradients, contrastive_loss
from relevanced.daemon.encoder import load_model
from tests.tiny import make_tiny_model


def triplet(anchor, positive, negatives=(), weight=1.0):
    return {
        "anchor": anchor,
        "query_key": anchor.lower(),
        "positive": positive,
        "negatives": list(negatives),
        "weight": weight,
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(make_tiny_model(tmp_path_factory.mktemp("contrastive") / "tiny"))


@pytest.fixture
def batch_of(model, tmp_path):
    def make(triplets, places=None):
        pq.write_table(pa.Table.from_pylist(triplets), tmp_path / "triplets.parquet")
        read = Triplets.read(tmp_path / "triplets.parquet")
        return Batches(model, read).of(places or range(len(read)))

    return make


def test_a_document_that_stands_in_two_triplets_is_one_column(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["ear", "skin"]), triplet("heart", "ear", ["red eye", "skin"])])
    assert len(batch.rows) == 2 + 3
    assert batch.positive.tolist() == [0, 1]
    assert not batch.excluded.any()


def test_another_answer_to_the_same_query_is_no_negative(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["ear"]), triplet("PAIN", "skin"), triplet("heart", "bone")])
    red_eye, skin, bone, ear = range(4)
    assert batch.excluded.nonzero().tolist() == [[0, skin], [1, red_eye]]
    assert batch.rows[3 + bone] != batch.rows[3 + ear]


def test_an_answer_that_is_known_only_outside_the_batch_is_no_negative_either(batch_of):
    rows = [triplet("pain", "red eye", ["ear"]), triplet("heart", "skin"), triplet("pain", "ear")]
    assert batch_of(rows, [0, 1]).excluded.tolist() == [[False, False, True], [False, False, False]]


def test_a_second_document_of_the_same_text_is_not_set_against_the_first(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["red eye", "ear"])])
    assert len(batch.rows) == 1 + 2
    assert batch.positive.tolist() == [0]


def test_the_loss_is_the_weighted_mean_of_the_cross_entropies():
    excluded = torch.tensor([[False, False, True], [False, False, False]])
    batch = Batch([[0]] * 5, torch.tensor([0, 1]), excluded, torch.tensor([3.0, 1.0]))
    vectors = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    first = math.log(1 + math.exp(-2))  # cosines 1 and 0 at temperature .5; the third document does not count
    second = math.log(1 + 2 * math.exp(-2))
    assert contrastive_loss(vectors, batch, 0.5).item() == pytest.approx((3 * first + second) / 4, rel=1e-6)


@pytest.mark.parametrize("kept_tokens", [0, 40, 100_000])
def test_the_gradient_is_that_of_one_padded_batch_however_little_is_kept(model, batch_of, monkeypatch, kept_tokens):
    monkeypatch.setattr("relevanced.daemon.encoder.BATCH_TOKENS", {"cpu": 20})
    monkeypatch.setattr("relevanced.daemon.encoder._autocast", lambda device: nullcontext())  # exact on every CPU
    batch = batch_of(
        [
            triplet("pain", "red eye", ["ear", "large heart of the left ear"]),
            triplet("small bone", "large bone of the left ear and the left kidney", ["skin"], weight=0.25),
        ]
    )
    features = model.tokenizer.pad({"input_ids": list(batch.rows)}, return_tensors="pt")
    loss = contrastive_loss(model(dict(features))["sentence_embedding"], batch, 0.05)
    expected = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    model.zero_grad()
    assert add_gradients(model, batch, temperature=0.05, kept_tokens=kept_tokens) == pytest.approx(loss.item(), 1e-4)
    for wanted, parameter in zip(expected, model.parameters(), strict=True):
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-5)
