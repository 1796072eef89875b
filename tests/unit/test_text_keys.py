import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.queries import query_key
from relevanced.daemon.text_keys import text_key

LONG = "An itch that makes one want to scratch, mostly at night. " * 10


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Tinnitus. A ringing in the ears.", "tinnitus: a ringing  in the ears", True),
        ("Tinnitus. A ringing in the ears.", "Tinnitus. A ringing in the ear.", False),
        ("C++", "C", False),
        (LONG, LONG.upper().replace(",", " –"), True),
        (LONG, LONG + "Or 2.", False),
        ("+" * 300, "-" * 300, False),
    ],
)
def test_texts_are_alike_that_differ_in_form_alone(one, other, alike):
    assert (text_key(one) == text_key(other)) is alike


@given(st.text(max_size=50), st.text(max_size=50))
def test_short_texts_are_alike_as_queries_are(one, other):
    assert (text_key(one) == text_key(other)) is (query_key(one) == query_key(other))
