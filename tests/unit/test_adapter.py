"""What an adapter learns, and what it must not: a planted rotation, and nothing that fits its own queries alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced.daemon.adapted import adapt
from relevanced.daemon.adapter import Examples, train_adapter
from relevanced.daemon.worth import AdapterPolicy

QUICK = AdapterPolicy(learning_rate=0.02, pull=0.0, epochs=60, batch_size=64)
DIMENSION = 12


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rotation(rng):
    return np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]


def planted(seed, queries=400, documents=200, turns=None):
    """Queries that are their documents, turned away and a little blurred; every fourth checks."""
    rng = np.random.default_rng(seed)
    found = unit(rng.standard_normal((documents, DIMENSION)))
    positives = rng.integers(0, documents, queries)
    turns = rotation(rng) if turns is None else turns
    turned = np.stack([found[place] @ turns for place in positives])
    return Examples(
        queries=unit(turned + 0.05 * rng.standard_normal(turned.shape)),
        documents=found,
        anchors=np.arange(queries),
        positives=positives,
        negatives=[rng.integers(0, documents, 2).tolist() for _ in range(queries)],
        known=[frozenset([int(place)]) for place in positives],
        weights=np.ones(queries, np.float32),
        checks=np.arange(queries) % 4 == 0,
    )


def share_first(examples, matrix, places):
    """How many of these triplets find their document first."""
    scores = adapt(examples.queries[examples.anchors[places]], matrix) @ examples.documents.T
    return float(np.mean(np.argmax(scores, axis=1) == examples.positives[places]))


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_a_planted_rotation_is_found_by_queries_that_were_not_learned_from(seed):
    examples = planted(seed)
    adapter = train_adapter(examples, QUICK)
    checking = np.flatnonzero(examples.checks)
    assert share_first(examples, np.eye(DIMENSION, dtype=np.float32), checking) < 0.2
    assert share_first(examples, adapter.matrix, checking) > 0.9
    assert adapter.learned
    assert adapter.matrix.dtype == np.float32


@settings(max_examples=5)
@given(st.integers(0, 1000), st.sampled_from([0, 3]))
def test_what_does_not_hold_for_other_queries_leaves_the_identity_which_ranks_as_the_model_does(seed, rank):
    """The checking queries are where they should be, and all the others are turned away."""
    examples = planted(seed)
    queries = examples.queries.copy()
    queries[examples.checks] = examples.documents[examples.positives[examples.checks]]
    adapter = train_adapter(replace(examples, queries=queries), replace(QUICK, rank=rank))
    assert not adapter.learned
    np.testing.assert_array_equal(adapter.matrix, np.eye(DIMENSION, dtype=np.float32))
    np.testing.assert_allclose(adapt(queries, adapter.matrix), queries, atol=1e-6)


def test_of_low_rank_is_what_is_added_to_the_identity():
    adapter = train_adapter(planted(1), replace(QUICK, rank=2))
    assert adapter.learned
    assert np.linalg.matrix_rank(adapter.matrix - np.eye(DIMENSION), tol=1e-4) == 2


def test_the_pull_keeps_it_near_the_identity():
    far, near = (train_adapter(planted(1), replace(QUICK, pull=pull)).matrix for pull in (0.0, 20.0))
    distances = [np.linalg.norm(matrix - np.eye(DIMENSION)) for matrix in (far, near)]
    assert distances[1] < 0.7 * distances[0]


@pytest.mark.parametrize(("first", "second"), [(1.0, 0.1), (0.1, 1.0)])
def test_where_two_teachers_disagree_the_weightier_is_followed(first, second):
    """One teaches the documents that were planted, the other the same ones turned once more."""
    one = planted(5, documents=100)
    both = Examples(
        queries=one.queries,
        documents=np.concatenate([one.documents, unit(one.documents @ rotation(np.random.default_rng(6)))]),
        anchors=np.concatenate([one.anchors, one.anchors]),
        positives=np.concatenate([one.positives, one.positives + 100]),
        negatives=[*one.negatives, *one.negatives],
        known=[frozenset([int(place)]) for place in np.concatenate([one.positives, one.positives + 100])],
        weights=np.repeat(np.array([first, second], np.float32), len(one.anchors)),
        checks=np.concatenate([one.checks, one.checks]),
    )
    matrix = train_adapter(both, QUICK).matrix
    halves = np.array_split(np.arange(len(both.anchors)), 2)
    shares = [share_first(both, matrix, half) for half in halves]
    assert max(shares) > 0.8
    assert (shares[0] > shares[1]) == (first > second)


def test_what_weighs_nothing_teaches_nothing():
    examples = planted(2)
    count = len(examples.anchors)
    more = Examples(
        queries=examples.queries,
        documents=examples.documents,
        anchors=np.concatenate([examples.anchors, examples.anchors]),
        positives=np.concatenate([examples.positives, np.zeros(count, dtype=np.int64)]),
        negatives=[*examples.negatives, *[[] for _ in range(count)]],
        known=[*examples.known, *[frozenset([0])] * count],
        weights=np.concatenate([examples.weights, np.zeros(count, np.float32)]),
        checks=np.concatenate([examples.checks, examples.checks]),
    )
    np.testing.assert_array_equal(train_adapter(more, QUICK).matrix, train_adapter(examples, QUICK).matrix)


def test_another_answer_to_the_same_query_is_no_negative():
    """With nothing else to rank below it, there is nothing to learn."""
    examples = planted(4, queries=40, documents=2)
    everything = replace(examples, known=[frozenset([0, 1])] * 40)
    assert train_adapter(everything, QUICK).plain_loss == 0
    assert train_adapter(examples, QUICK).plain_loss > 0


@pytest.mark.parametrize("side", [True, False])
def test_one_side_alone_is_not_enough(side):
    examples = planted(1)
    with pytest.raises(ValueError, match="triplets of other queries to check by"):
        train_adapter(replace(examples, checks=np.full(len(examples.checks), side)), QUICK)
