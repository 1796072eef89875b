"""What counts as a negative, and that neither thrift with memory nor packing changes the gradient."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from relevanced.daemon.batches import Batches, Rows, Triplets
from relevanced.daemon.encoder import load_model, tokenize
from relevanced.daemon.forward import Padded
from relevanced.daemon.gradients import Gradients, patiently
from relevanced.daemon.losses import batch_loss
from relevanced.daemon.packing import packed_or_none
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.team import Team
from tests.tiny import make_tiny_model


def triplet(anchor, positive, negatives=(), weight=1.0):
    return {
        "anchor": anchor,
        "query_key": anchor.lower(),
        "positive": positive,
        "negatives": list(negatives),
        "weight": weight,
    }


TWO = [
    triplet("pain", "red eye", ["ear", "large heart of the left ear"]),
    triplet("small bone", "large bone of the left ear and the left kidney", ["skin"], weight=0.25),
]


@pytest.fixture(params=["mean", "cls", "lasttoken"])
def model(tmp_path, request, monkeypatch):
    """In float32 everywhere, so that what should be equal is."""
    monkeypatch.setattr("relevanced.daemon.forward.computes_bf16", lambda device: False)
    model = load_model(make_tiny_model(tmp_path / "tiny", pooling=request.param))
    for one in model.parameters():
        one.grad = torch.zeros_like(one)
    return model


@pytest.fixture
def batches_of(model, tmp_path):
    def make(triplets):
        pq.write_table(pa.Table.from_pylist(triplets), tmp_path / "triplets.parquet")
        read = Triplets.read(tmp_path / "triplets.parquet")
        queries = Rows(read.queries, lambda texts: tokenize(model, texts, "query"))
        return Batches(read, queries, Rows(read.documents, lambda texts: tokenize(model, texts, "document")))

    return make


@pytest.fixture
def batch_of(batches_of):
    def make(triplets, places=None):
        return batches_of(triplets).of(places or range(len(triplets)))

    return make


def taken(model):
    """The gradients that the model has, which are zero again."""
    gradients = [one.grad.clone() for one in model.parameters()]
    for one in model.parameters():
        one.grad.zero_()
    return gradients


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.fixture
def in_one(model, batches_of):
    """The loss of TWO and its gradients by one padded batch, as anybody would write it."""
    batch = batches_of(TWO).of([0, 1])
    features = model.tokenizer.pad({"input_ids": [row.tolist() for row in batch.rows]}, return_tensors="pt")
    loss = batch_loss(model(dict(features))["sentence_embedding"], batch.answers, TrainingPolicy())
    loss.backward()
    return loss.item(), taken(model)


def test_a_document_that_stands_in_two_triplets_is_one_column(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["ear", "skin"]), triplet("heart", "ear", ["red eye", "skin"])])
    assert len(batch.rows) == 2 + 3
    assert batch.answers.positive.tolist() == [0, 1]
    assert not batch.answers.excluded.any()


def test_another_answer_to_the_same_query_is_no_negative(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["ear"]), triplet("PAIN", "skin"), triplet("heart", "bone")])
    red_eye, skin, bone, ear = range(4)
    assert batch.answers.excluded.nonzero().tolist() == [[0, skin], [1, red_eye]]
    assert batch.rows[3 + bone].tolist() != batch.rows[3 + ear].tolist()


def test_an_answer_that_is_known_only_outside_the_batch_is_no_negative_either(batch_of):
    rows = [triplet("pain", "red eye", ["ear"]), triplet("heart", "skin"), triplet("pain", "ear")]
    assert batch_of(rows, [0, 1]).answers.excluded.tolist() == [[False, False, True], [False, False, False]]


def test_a_second_document_of_the_same_text_is_not_set_against_the_first(batch_of):
    batch = batch_of([triplet("pain", "red eye", ["red eye", "ear"])])
    assert len(batch.rows) == 1 + 2
    assert batch.answers.positive.tolist() == [0]


@pytest.mark.parametrize("kept_tokens", [0, 40, 100_000])
def test_the_gradient_is_that_of_one_padded_batch_however_little_is_kept(
    model, batches_of, in_one, monkeypatch, kept_tokens
):
    monkeypatch.setattr("relevanced.daemon.forward.pass_tokens", lambda _device: 20)
    batches = batches_of(TWO)
    gradients = Gradients(model, Padded(model), batches, TrainingPolicy(kept_tokens=kept_tokens), Team())
    assert gradients.add(batches.of([0, 1])).item() == pytest.approx(in_one[0], 1e-4)
    assert_same(taken(model), in_one[1])


@pytest.mark.parametrize("kept_tokens", [0, 100_000])
def test_texts_in_one_stream_have_the_gradient_of_padded_ones(model, batches_of, in_one, kept_tokens):
    batches, packed = batches_of(TWO), packed_or_none(model)
    gradients = Gradients(model, packed, batches, TrainingPolicy(kept_tokens=kept_tokens), Team())
    assert gradients.add(batches.of([0, 1])).item() == pytest.approx(in_one[0], 1e-4)
    assert_same(taken(model), in_one[1])


def test_a_step_of_fixed_shapes_as_a_gpu_records_it_has_that_gradient_too(model, batches_of, in_one):
    batches, packed = batches_of(TWO), packed_or_none(model)
    gradients = Gradients(model, packed, batches, TrainingPolicy(batch_size=3), Team())
    tensors = gradients.whole_step_tensors(batches.of([0, 1]))
    assert len(tensors[0]) % 64 == 0
    assert gradients.whole_step(tensors).item() == pytest.approx(in_one[0], 1e-4)
    assert_same(taken(model), in_one[1])


def test_a_stream_keeps_its_texts_apart(model, monkeypatch):
    """A model whose attention cannot do that is left to padding."""
    assert packed_or_none(model) is not None
    before = model[0].model.config._attn_implementation
    model[0].model.set_attn_implementation("eager")
    monkeypatch.setattr("relevanced.daemon.packing._ALIKE", 1.1)
    assert packed_or_none(model) is None
    assert model[0].model.config._attn_implementation == "eager" != before


def test_a_step_that_runs_out_of_memory_is_done_again_with_half_as_much_kept(model, batches_of, in_one):
    batches = batches_of(TWO)
    gradients = Gradients(model, Padded(model), batches, TrainingPolicy(kept_tokens=40_000), Team())
    limits = []

    def step():
        limits.append(gradients.kept_tokens)
        loss = gradients.add(batches.of([0, 1]))
        if gradients.kept_tokens > 10_000:  # as where the memory is: behind a part of the way
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    loss, kept = patiently(step, gradients, lambda: taken(model))
    assert (limits, kept) == ([40_000, 20_000, 10_000], 10_000)
    assert loss.item() == pytest.approx(in_one[0], 1e-4)
    assert_same(taken(model), in_one[1])


def test_a_step_that_never_fits_ends_in_an_error_of_memory(model, batches_of):
    def step():
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    gradients = Gradients(model, Padded(model), batches_of(TWO), TrainingPolicy(), Team())
    with pytest.raises(torch.OutOfMemoryError):
        patiently(step, gradients, lambda: None)
