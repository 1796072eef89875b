"""The encoder gives what sentence-transformers would, whatever the order, the lengths and the threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from relevanced.daemon.encoder import TransformerEncoder
from tests.tiny import WORDS, make_tiny_model

BF16 = 1e-3  # how far a unit vector's parts may be off where the CPU computes in bf16


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = make_tiny_model(tmp_path_factory.mktemp("encoder") / "tiny")
    model = SentenceTransformer(str(directory), device="cpu")
    model.prompts["query"] = "the left "
    model.save(str(directory), create_model_card=False)
    return directory


@pytest.fixture(scope="module")
def encoder(directory):
    return TransformerEncoder.load(directory, "space")


def texts_of_mixed_lengths(count):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(count)]


def test_documents_come_back_in_their_order_and_as_sentence_transformers_encodes_them(directory, encoder):
    texts = texts_of_mixed_lengths(300)
    expected = SentenceTransformer(str(directory), device="cpu").encode(texts, prompt_name="document")
    np.testing.assert_allclose(expected, encoder.encode_documents(texts), atol=BF16)


def test_queries_have_the_prompt_that_the_model_names(directory, encoder):
    expected = SentenceTransformer(str(directory), device="cpu").encode(["red eye"], prompt_name="query")
    np.testing.assert_allclose(expected, encoder.encode_queries(["red eye"]), atol=BF16)
    assert not np.allclose(encoder.encode_queries(["red eye"]), encoder.encode_documents(["red eye"]), atol=10 * BF16)


def test_vectors_are_float32_of_unit_length_also_where_the_model_does_not_normalise(tmp_path):
    directory = make_tiny_model(tmp_path / "tiny")
    model = SentenceTransformer(str(directory), device="cpu")
    SentenceTransformer(modules=list(model)[:2], device="cpu").save(str(tmp_path / "bare"), create_model_card=False)
    vectors = TransformerEncoder.load(tmp_path / "bare", "space").encode_documents(["red eye", ""])
    assert (vectors.dtype, vectors.shape) == (np.float32, (2, 16))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_no_text_gives_no_vector(encoder):
    assert encoder.encode_queries([]).shape == (0, 16)


def test_many_threads_get_what_one_gets(encoder):
    """The tokenizer keeps its truncation in an object that all threads share."""
    lots = [texts_of_mixed_lengths(count) for count in range(1, 13)]
    alone = [encoder.encode_documents(texts) for texts in lots]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.encode_documents, lots))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=BF16)


def test_loading_a_model_says_nothing_on_the_terminal(directory, capfd):
    TransformerEncoder.load(directory, "space").encode_documents(["red eye"])
    assert capfd.readouterr() == ("", "")
