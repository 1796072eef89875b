import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.exact_runs import DEPTH, rank_exactly


class Given:
    """An encoder that gives each query the vector of its number."""

    fingerprint, dimension = "given", 3

    def __init__(self, vectors):
        self._vectors = vectors

    def encode_queries(self, texts):
        return self._vectors[[int(text) for text in texts]]

    def encode_documents(self, texts):
        raise NotImplementedError


@given(st.integers(0, 4), st.integers(1, 300), st.integers(0, 2**16))
def test_the_best_are_ranked_and_a_document_counts_by_its_best_passage(queries, passages, seed):
    rng = np.random.default_rng(seed)
    asked, vectors = (rng.standard_normal((count, 3)).astype(np.float32) for count in (queries, passages))
    names = [f"d{number}" for number in rng.integers(0, max(1, passages // 2), passages)]
    texts = {f"q{number}": str(number) for number in range(queries)}
    run = rank_exactly(Given(asked), texts, names, vectors)
    assert run.keys() == texts.keys()
    for number, scores in enumerate(run.values()):
        best: dict[str, float] = {}
        for name, score in zip(names, vectors @ asked[number], strict=True):
            best[name] = max(best.get(name, -np.inf), float(score))
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        np.testing.assert_allclose([best[name] for name in scores], list(scores.values()), rtol=1e-5)
        if passages <= DEPTH:
            assert scores.keys() == best.keys()


def test_without_documents_every_query_finds_nothing():
    nothing = np.empty((0, 3), dtype=np.float32)
    assert rank_exactly(Given(np.ones((1, 3), np.float32)), {"q": "0"}, [], nothing) == {"q": {}}
