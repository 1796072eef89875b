import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.queries import cluster_key, query_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("High Fever", "  high\tfever "),
        ("x-ray", "X ray"),
        ("don't panic!", "dont panic"),
        ("Ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("Straße", "STRASSE"),
        ("café", "cafe\N{COMBINING ACUTE ACCENT}"),
        ("co\N{SOFT HYPHEN}operate", "cooperate"),
    ],
)
def test_ways_to_type_one_query_have_one_key(one, other):
    assert query_key(one) == query_key(other)


@pytest.mark.parametrize(("one", "other"), [("c", "c++"), ("c", "c#"), ("कि", "की"), ("cafe", "café"), ("???", "!!!")])
def test_different_queries_keep_different_keys(one, other):
    assert query_key(one) != query_key(other)


@given(st.text())
def test_a_key_is_its_own_key(text):
    assert query_key(query_key(text)) == query_key(text)


@given(st.text(min_size=1).filter(lambda text: text.split()))
def test_a_query_that_says_anything_has_a_key_and_a_cluster(text):
    key = query_key(text)
    assert key == " ".join(key.split())
    if key:  # a lone soft hyphen says nothing
        assert cluster_key(key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mount a disk", "how do I mount disks"),
        ("infection of the skin", "skin infections"),
        ("running nose", "nose runs"),
        ("allergies", "allergy"),
        ("café menu", "cafe menu"),
        ("fever fever", "fever"),
    ],
)
def test_near_duplicates_share_a_cluster(one, other):
    assert cluster_key(query_key(one)) == cluster_key(query_key(other))


@pytest.mark.parametrize(("one", "other"), [("bus", "bed"), ("skin rash", "skin cancer"), ("to be or", "what is")])
def test_different_needs_do_not(one, other):
    assert cluster_key(query_key(one)) != cluster_key(query_key(other))


@given(st.lists(st.text(), max_size=6), st.randoms())
def test_the_order_of_words_does_not_matter_to_a_cluster(words, rng):
    key = query_key(" ".join(words))
    shuffled = key.split()
    rng.shuffle(shuffled)
    assert cluster_key(" ".join(shuffled)) == cluster_key(key)
