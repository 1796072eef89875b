import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.metrics import (
    condensed,
    judged_at_10,
    judged_documents,
    mean_interval,
    measures_of,
    ndcg_at_10,
    qrels_from,
    query_weights,
)


def test_the_best_order_has_ndcg_1_and_a_swap_costs_what_the_discount_says():
    qrels = {"q": {"d1": 1.0, "d2": 0.5}}
    assert ndcg_at_10(qrels, {"q": {"d1": 0.9, "d2": 0.8}}) == {"q": pytest.approx(1.0)}
    swapped = (0.5 + 1 / np.log2(3)) / (1 + 0.5 / np.log2(3))
    assert ndcg_at_10(qrels, {"q": {"d1": 0.8, "d2": 0.9}}) == {"q": pytest.approx(swapped)}


def test_documents_below_place_10_do_not_count():
    run = {"q": {f"d{place}": 1 - place / 100 for place in range(1, 12)}}
    assert ndcg_at_10({"q": {"d11": 1.0}}, run) == {"q": 0.0}
    assert ndcg_at_10({"q": {"d10": 1.0}}, run)["q"] == pytest.approx(1 / np.log2(11))


def test_a_query_that_the_run_leaves_out_counts_as_0_instead_of_vanishing():
    assert ndcg_at_10({"q": {"d": 1.0}, "lost": {"d": 1.0}, "empty": {"d": 1.0}}, {"q": {"d": 1.0}, "empty": {}}) == {
        "q": 1.0,
        "lost": 0.0,
        "empty": 0.0,
    }


def test_a_query_without_a_relevant_document_is_not_asked():
    assert ndcg_at_10({"q": {"d": 0}, "r": {}, "s": {"d": 0.004}}, {"q": {"d": 1.0}, "r": {}, "s": {}}) == {}


@given(st.permutations(range(1, 121)), st.sets(st.integers(1, 120), min_size=1, max_size=9))
def test_recall_and_reciprocal_rank_are_those_of_their_definitions(order, relevant):
    run = {"q": {f"d{name}": 1 / place for place, name in enumerate(order, start=1)}}
    qrels = {"q": {f"d{name}": 0.5 + name / 300 for name in relevant}}
    ranks = sorted(order.index(name) + 1 for name in relevant)
    measured = measures_of(qrels, run)
    assert measured["recall@10"]["q"] == pytest.approx(sum(rank <= 10 for rank in ranks) / len(ranks))
    assert measured["recall@100"]["q"] == pytest.approx(sum(rank <= 100 for rank in ranks) / len(ranks))
    assert measured["mrr@10"]["q"] == pytest.approx(1 / ranks[0] if ranks[0] <= 10 else 0)
    assert measured["ndcg@10"] == ndcg_at_10(qrels, run)


def test_expert_grades_and_probabilities_are_both_taken():
    run = {"q": {"d1": 0.1, "d2": 0.9, "d3": 0.5}}
    experts, shares = {"q": {"d1": 2, "d2": 1}}, {"q": {"d1": 1.0, "d2": 0.5}}
    assert ndcg_at_10(experts, run) == pytest.approx(ndcg_at_10(shares, run))


def test_qrels_hold_what_is_likelier_relevant_than_not():
    rows = [("q1", "d1", 0.9), ("q1", "d2", 0.49), ("q1", "d3", 0.5), ("q2", "d1", 0.3)]
    judgments = pa.table(dict(zip(("query_key", "document_id", "grade"), zip(*rows, strict=True), strict=True)))
    assert qrels_from(judgments) == {"q1": {"d1": 0.9, "d3": 0.5}}


def test_the_interval_is_that_of_student():
    assert mean_interval([1.0, 2.0, 3.0, 4.0], 0.95) == pytest.approx((2.5, 0.4457, 4.5543), abs=1e-4)


def test_of_one_value_alone_nothing_is_known_and_of_none_there_is_no_mean():
    assert mean_interval([0.7], 0.95) == (0.7, -np.inf, np.inf)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], 0.95)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.floats(0.5, 0.99))
def test_the_mean_lies_within_and_more_confidence_is_wider(values, confidence):
    narrow, wide = mean_interval(values, confidence), mean_interval(values, (1 + confidence) / 2)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_95_percent_of_the_intervals_hold_the_truth_for_values_like_ndcg():
    rng = np.random.default_rng(7)
    truth = 0.6 * 0.5 + 0.4 * 0.0
    holds = 0
    for _ in range(1000):
        _, low, high = mean_interval((rng.beta(2, 2, 200) * (rng.random(200) < 0.6)).tolist(), 0.95)
        holds += low <= truth <= high
    assert 930 <= holds <= 970


def test_equal_weights_are_no_weights_and_a_larger_one_draws_the_mean():
    values = [0.1, 0.4, 0.7]
    assert mean_interval(values, 0.9, [3.0, 3.0, 3.0]) == pytest.approx(mean_interval(values, 0.9))
    assert mean_interval(values, 0.9, [1.0, 1.0, 4.0]).mean == pytest.approx((0.1 + 0.4 + 4 * 0.7) / 6)


def test_95_percent_of_the_intervals_hold_the_truth_when_queries_are_found_unequally():
    """The harder a query, the rarer it is found; weights undo that, and without them hardly any interval is right."""
    rng = np.random.default_rng(3)
    holds = holds_unweighted = 0
    for _ in range(500):
        gains = rng.beta(1, 3, 1500)
        chance = 0.9 - 0.8 * gains
        found = rng.random(1500) < chance
        _, low, high = mean_interval(gains[found].tolist(), 0.95, (1 / chance[found]).tolist())
        holds += low <= 0.25 <= high
        _, low, high = mean_interval(gains[found].tolist(), 0.95)
        holds_unweighted += low <= 0.25 <= high
    assert 460 <= holds <= 490
    assert holds_unweighted < 50


def test_a_query_counts_by_how_unlikely_it_was_found():
    rows = [("sure", 0.9, 1.0), ("half", 0.9, 0.5), ("twice", 0.9, 0.5), ("twice", 0.6, 0.5), ("rare", 0.9, 0.01)]
    rows.append(("half", 0.2, 0.9))  # not found, so it says nothing about how the query was
    judgments = pa.table(dict(zip(("query_key", "grade", "inclusion"), zip(*rows, strict=True), strict=True)))
    weights = query_weights(judgments, 10.0)
    assert weights == pytest.approx({"sure": 1.0, "half": 2.0, "twice": 1 / 0.75, "rare": 10.0})


def test_judged_is_what_clicks_and_skips_alone_make_one_sure_of():
    columns = {"query_key": ["a", "a", "a", "b"], "document_id": ["d1", "d2", "d3", "d1"]}
    assert judged_documents(pa.table({**columns, "weight": [0.9, 0.5, 0.49, 0.0]})) == {"a": {"d1", "d2"}}


@given(
    st.dictionaries(st.sampled_from("abcdefghijklmnop"), st.floats(0, 1), min_size=1),
    st.sets(st.sampled_from("abcdefghijklmnop")),
)
def test_without_the_unjudged_no_run_does_worse_by_the_judged(scores, judged):
    run, known = {"q": scores}, {"q": judged}
    assert set(condensed(run, known)["q"]) == set(scores) & judged
    assert 0 <= judged_at_10(run, known) <= min(10, len(judged))
    if relevant := sorted(judged)[:3]:
        qrels = {"q": dict.fromkeys(relevant, 1.0)}
        assert ndcg_at_10(qrels, condensed(run, known))["q"] >= ndcg_at_10(qrels, run)["q"] - 1e-9
