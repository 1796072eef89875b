"""How texts are parted into what goes through a model at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.encoder import load_model
from relevanced.daemon.forward import Padded, pass_tokens
from relevanced.daemon.packing import Packed, Stream
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(make_tiny_model(tmp_path_factory.mktemp("forward") / "tiny"))


@given(st.lists(st.integers(1, 600), max_size=50), st.integers(10, 2000) | st.none())
def test_parts_hold_each_text_once_and_no_more_tokens_than_allowed(model, lengths, most):
    rows = [np.zeros(length, dtype=np.int32) for length in lengths]
    for forward in (Padded(model), Packed(model)):
        parts = list(forward.parts(rows, most))
        assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
        for part in parts:
            cost = forward.cost([rows[place] for place in part])
            assert len(part) == 1 or cost <= min(most or 10**6, pass_tokens(model.device))


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=9))
def test_a_stream_says_of_each_token_which_text_it_is_of_and_where_it_stands_there(texts):
    stream = Stream.of([np.array(text, dtype=np.int32) for text in texts])
    expected = [(token, place, number) for number, text in enumerate(texts) for place, token in enumerate(text)]
    assert list(zip(*(one.tolist() for one in stream.tensors()[:3]), strict=True)) == [
        (token, place, number) for token, place, number in expected
    ]
    assert stream.ends.diff().tolist() == [len(text) for text in texts]
    assert stream.longest == max(map(len, texts))
