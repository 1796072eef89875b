"""Closed embedding models, over real HTTP."""

import numpy as np
import pytest

from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.llm import LlmPolicy
from relevanced.daemon.reference import OpenAiEncoder
from tests.endpoints import endpoint


def embedded(_path, body):
    data = [{"object": "embedding", "index": place, "embedding": [3, 4, 0]} for place in range(len(body["input"]))]
    return 200, {"object": "list", "data": data[::-1]}


def test_texts_are_asked_for_by_the_hundred_and_become_unit_vectors_in_their_order():
    def by_length(_path, body):
        rows = [{"index": place, "embedding": [len(text), 1]} for place, text in enumerate(body["input"])]
        return 200, {"data": rows[::-1]}

    texts = ["x" * count for count in range(1, 251)]
    with endpoint(by_length) as known:
        encoder = OpenAiEncoder("m", LlmPolicy(base_url=f"{known.url}/v1"))
        vectors = encoder.encode_documents(texts)
        assert [len(body["input"]) for body in known.asked] == [1, 100, 100, 50]
        assert encoder.encode_queries([]).shape == (0, 2)
    assert encoder.dimension == 2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], range(1, 251), rtol=1e-5)


@pytest.mark.parametrize(
    ("status", "answer", "error", "sentence"),
    [
        (404, {"error": {"message": "no"}}, BadInput, "refused with 404; look at the name"),
        (401, {"error": {"message": "no"}}, BadInput, "refused with 401"),
        (429, {"error": {"message": "slow"}}, Retry, "does not answer"),
        (503, {"error": {"message": "busy"}}, Retry, "does not answer"),
        (200, b"<html>", BadInput, "gives no embeddings; look at base_url"),
        (200, {"data": [{"index": 0, "embedding": "AAAA"}]}, BadInput, "gives no embeddings"),
        (200, {"data": []}, BadInput, "gives not one embedding for each text"),
        (200, {"data": [{"index": 1, "embedding": [1.0]}]}, BadInput, "gives not one embedding for each text"),
        (200, {"data": [{"index": 0, "embedding": [0.0]}]}, BadInput, "gives not one embedding for each text"),
    ],
)
def test_what_is_no_embedding_is_one_sentence(status, answer, error, sentence):
    with endpoint(lambda *_: (status, answer)) as known, pytest.raises(error, match=sentence) as raised:
        OpenAiEncoder("m", LlmPolicy(base_url=f"{known.url}/v1", retries=0))
    assert "\n" not in str(raised.value)


def test_what_is_sent_goes_to_the_endpoint_that_is_named_and_nowhere_else():
    with endpoint(embedded) as other, endpoint(lambda *_: (307, other)) as known, pytest.raises(BadInput):
        OpenAiEncoder("m", LlmPolicy(base_url=f"{known.url}/v1", retries=0))
    assert other.asked == []
