"""Our figures against those of independent tools, where the method is the same."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from relevanced.daemon.gate import GatePolicy, compare
from relevanced.daemon.metrics import mean_interval, measures_of, ndcg_at_10

NDCGS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=60)
DOCUMENTS = [f"d{number:03}" for number in range(200)]


@given(NDCGS, st.floats(0.5, 0.999))
def test_the_interval_and_the_odds_of_luck_are_those_of_scipys_paired_t_test(pairs, confidence):
    candidate, live = ({f"q{place}": pair[side] for place, pair in enumerate(pairs)} for side in (0, 1))
    differences = [one - other for one, other in pairs]
    assume(np.std(differences) > 1e-6)
    weights = dict.fromkeys(live, 1.0)
    found = compare(candidate, live, weights, GatePolicy(confidence=confidence), 0.01, candidate=2, live=1)
    scipys = stats.ttest_rel([one for one, _ in pairs], [other for _, other in pairs], alternative="two-sided")
    low, high = scipys.confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((max(low, -1), min(high, 1)), abs=1e-9)
    assert mean_interval(differences, confidence)[1:] == pytest.approx((low, high), abs=1e-9)
    greater = stats.ttest_1samp(differences, 0, alternative="greater")
    assert found.luck == pytest.approx(greater.pvalue, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_the_measures_are_trec_evals_own(seed):
    rng = np.random.default_rng(seed)
    run = {
        f"q{query}": {
            str(name): float(score)
            for name, score in zip(rng.permutation(DOCUMENTS)[:120], -np.sort(-rng.random(120)), strict=True)
        }
        for query in range(5)
    }
    qrels = {
        query: {str(name): float(grade) for name, grade in zip(rng.permutation(DOCUMENTS), grades, strict=False)}
        for query, grades in ((query, rng.integers(1, 101, rng.integers(1, 12)) / 100) for query in run)
    }
    whole = {query: {name: round(100 * grade) for name, grade in grades.items()} for query, grades in qrels.items()}
    asked = {"ndcg_cut.10", "recall.10,100", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(whole, asked).evaluate(run)
    ours = measures_of(qrels, run)
    assert ndcg_at_10(qrels, run) == ours["ndcg@10"]
    for query, measured in theirs.items():
        assert ours["ndcg@10"][query] == pytest.approx(measured["ndcg_cut_10"], abs=1e-6)
        assert ours["recall@10"][query] == pytest.approx(measured["recall_10"], abs=1e-6)
        assert ours["recall@100"][query] == pytest.approx(measured["recall_100"], abs=1e-6)
        reciprocal = measured["recip_rank"] if measured["recip_rank"] > 1 / 10.5 else 0.0
        assert ours["mrr@10"][query] == pytest.approx(reciprocal, abs=1e-6)
