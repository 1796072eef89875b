import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.gate import (
    GatePolicy,
    Objection,
    better_known,
    by_golden,
    compare,
    golden_harm,
    weigh,
    with_unjudged,
)

POLICY = GatePolicy(confidence=0.95, min_improvement=0.0)
EVEN_ODDS = 0.025  # as the interval's own end
EVEN = {f"q{number}": 1.0 for number in range(100_000)} | {"a": 1.0, "b": 1.0}  # every query counts alike


def arms(mean: float, spread: float, queries: int) -> tuple[dict[str, float], dict[str, float]]:
    """Candidate and live, whose differences have exactly this mean and standard deviation."""
    noise = np.random.default_rng(1).standard_normal(queries)
    differences = mean + spread * (noise - noise.mean()) / noise.std(ddof=1)
    live = {f"q{number}": 0.5 for number in range(queries)}
    return {query: 0.5 + float(gain) for query, gain in zip(live, differences, strict=True)}, live


def test_a_candidate_that_ranks_better_is_accepted():
    comparison = compare(*arms(0.031, 0.1, 400), EVEN, POLICY, EVEN_ODDS, candidate=42, live=41)
    assert comparison.verdict == "accepted"
    assert comparison.sentence == (
        "Accepted candidate 42: NDCG@10 rose by 0.031 (0.021 to 0.041) against live 41 on 400 held-out queries."
    )
    assert comparison.interval == pytest.approx((0.031, 0.0212, 0.0408), abs=1e-4)
    assert (comparison.queries, comparison.enough) == (400, None)
    assert comparison.luck < 1e-8


def test_a_candidate_that_ranks_worse_is_rejected_with_the_size_of_its_fall():
    comparison = compare(*arms(-0.019, 0.18, 1900), EVEN, POLICY, EVEN_ODDS, candidate=42, live=41)
    assert comparison.verdict == "rejected"
    assert comparison.sentence == (
        "Rejected candidate 42: NDCG@10 fell by 0.019 (0.011 to 0.027) against live 41 on 1,900 held-out queries."
    )


def test_a_difference_that_may_be_none_is_inconclusive_and_says_how_many_queries_would_tell():
    comparison = compare(*arms(0.005, 0.1, 400), EVEN, POLICY, EVEN_ODDS, candidate=2, live=1)
    assert comparison.verdict == "inconclusive"
    assert comparison.sentence.endswith("on 400 held-out queries; about 1,146 more would tell.")
    assert compare(*arms(0.005, 0.1, 1560), EVEN, POLICY, EVEN_ODDS, candidate=2, live=1).verdict == "accepted"


def test_two_versions_that_rank_alike_ask_for_no_impossible_number_of_queries():
    assert "too alike to tell" in compare(*arms(0.0, 0.1, 400), EVEN, POLICY, EVEN_ODDS, candidate=2, live=1).sentence
    assert "too alike to tell" in compare(*arms(0.0, 0.0, 400), EVEN, POLICY, EVEN_ODDS, candidate=2, live=1).sentence


@pytest.mark.parametrize("queries", [0, 1, 99])
def test_too_few_queries_decide_nothing_however_large_the_difference(queries):
    candidate, live = ({f"q{number}": ndcg for number in range(queries)} for ndcg in (0.9, 0.1))
    comparison = compare(candidate, live, EVEN, POLICY, EVEN_ODDS, candidate=2, live=1)
    assert comparison.verdict == "inconclusive"
    assert comparison.sentence == (
        f"Undecided about candidate 2: {queries} held-out queries have a relevant document, and the gate asks for 100;"
        f" {100 - queries} more are needed."
    )
    assert -1 <= comparison.low <= comparison.high <= 1


def test_a_significant_gain_below_the_least_improvement_is_rejected():
    comparison = compare(
        *arms(0.004, 0.05, 5000), EVEN, GatePolicy(min_improvement=0.01), EVEN_ODDS, candidate=2, live=1
    )
    assert comparison.verdict == "rejected"
    assert comparison.sentence.endswith("on 5,000 held-out queries, short of the 0.010 asked for.")


def test_the_interval_is_paired():
    """Queries differ far more from each other than two versions do on one query."""
    spread = np.random.default_rng(3).uniform(0.0, 0.95, 300)
    live = {f"q{number}": float(value) for number, value in enumerate(spread)}
    candidate = {query: value + 0.02 + 0.001 * (number % 2) for number, (query, value) in enumerate(live.items())}
    comparison = compare(candidate, live, EVEN, POLICY, EVEN_ODDS, candidate=2, live=1)
    assert comparison.high - comparison.low < 0.001


def test_arms_of_different_queries_cannot_be_compared():
    with pytest.raises(ValueError, match="different queries"):
        compare({"a": 1.0}, {"b": 1.0}, EVEN, POLICY, EVEN_ODDS, candidate=2, live=1)


@given(st.floats(-0.2, 0.2), st.floats(0, 0.3), st.integers(200, 500), st.floats(0, 0.05))
def test_the_verdict_follows_from_where_the_interval_lies(mean, spread, queries, bar):
    policy = GatePolicy(confidence=0.95, min_improvement=bar)
    comparison = compare(*arms(mean, spread, queries), EVEN, policy, EVEN_ODDS, candidate=2, live=1)
    assert comparison.low - 1e-9 <= comparison.difference <= comparison.high + 1e-9
    assert (comparison.verdict == "accepted") == (comparison.low > bar)  # then luck is less likely than its level too
    assert (comparison.verdict == "rejected") == (comparison.high < bar)


def test_of_candidates_that_are_no_better_few_are_accepted():
    """At 95 % two-sided, one harmless candidate in forty passes by luck."""
    rng = np.random.default_rng(5)
    live = {f"q{number}": 0.5 for number in range(200)}
    accepted = 0
    for _ in range(400):
        gains = rng.choice([-0.37, 0.0, 0.0, 0.0, 0.37], 200)
        candidate = {query: 0.5 + float(gain) for query, gain in zip(live, gains, strict=True)}
        accepted += compare(candidate, live, EVEN, POLICY, EVEN_ODDS, candidate=2, live=1).verdict == "accepted"
    assert accepted <= 20


def found(mean: float):
    return compare(*arms(mean, 0.1, 400), EVEN, POLICY, EVEN_ODDS, candidate=2, live=1)


@pytest.mark.parametrize(
    ("with_them", "without", "verdict"),
    [
        (-0.05, -0.03, "rejected"),
        (-0.05, 0.0, "inconclusive"),
        (-0.05, 0.03, "inconclusive"),
        (0.0, 0.05, "inconclusive"),
        (0.05, -0.05, "accepted"),
    ],
)
def test_what_nobody_could_judge_speaks_for_no_promotion_and_for_no_rejection(with_them, without, verdict):
    comparison = with_unjudged(found(with_them), found(without), (4.0, 9.5), candidate=2)
    assert comparison.verdict == verdict
    assert comparison.interval == found(with_them).interval


def test_a_rejection_that_the_unjudged_explain_says_so():
    assert with_unjudged(found(-0.05), found(0.03), (4.04, 9.5), candidate=2).sentence == (
        "Undecided about candidate 2: NDCG@10 fell by 0.050 (0.040 to 0.060) against live 1 on 400 held-out queries,"
        " but of its first ten documents 4.0 are judged, of live's 9.5; among the judged alone NDCG@10 rose by 0.030"
        " (0.020 to 0.040)."
    )


def test_what_luck_may_have_brought_is_not_accepted_however_high_its_low_end():
    arm = arms(0.031, 0.2, 400)
    assert compare(*arm, EVEN, POLICY, 0.01, candidate=42, live=41).verdict == "accepted"
    comparison = compare(*arm, EVEN, POLICY, 0.0005, candidate=42, live=41)
    assert comparison.verdict == "inconclusive"
    assert comparison.sentence == (
        "Undecided about candidate 42: NDCG@10 rose by 0.031 (0.011 to 0.051) against live 41 on 400 held-out queries,"
        " as luck alone would have it in 1 of 965, and this test may err in 1 of 2,000; about 58 more would tell."
    )
    assert comparison.enough == 458


@given(st.floats(0.011, 0.06), st.floats(0.02, 0.4), st.integers(100, 400), st.floats(1e-5, 0.02))
def test_with_as_many_queries_as_are_said_to_be_enough_the_verdict_is_clear(mean, spread, queries, level):
    policy = GatePolicy()
    first = compare(*arms(mean, spread, queries), EVEN, policy, level, candidate=2, live=1)
    if first.enough is None:
        assert first.verdict != "inconclusive" or "alike" in first.sentence
    else:
        assert first.verdict == "inconclusive"
        assert first.enough > queries
        later = compare(*arms(mean, spread, first.enough), EVEN, policy, level, candidate=2, live=1)
        assert later.verdict == "accepted"


@given(st.floats(-0.1, 0.1), st.floats(0, 0.3), st.integers(100, 400), st.floats(1e-6, 0.1))
def test_nothing_is_accepted_that_luck_explains_better_than_its_level(mean, spread, queries, level):
    comparison = compare(*arms(mean, spread, queries), EVEN, GatePolicy(), level, candidate=2, live=1)
    if comparison.verdict == "accepted":
        assert comparison.luck <= level
        assert comparison.low > GatePolicy().min_improvement


HARM = Objection("slice tail_queries", proven=True, sentence="NDCG@10 fell by 0.050 on the 312 of tail_queries")
DOUBT = Objection("better_known", proven=False, sentence="more of its documents are judged")


@pytest.mark.parametrize(
    ("mean", "objections", "verdict"),
    [
        (0.05, [], "accepted"),
        (0.05, [DOUBT], "inconclusive"),
        (0.05, [HARM], "rejected"),
        (0.05, [DOUBT, HARM], "rejected"),
        (0.0, [DOUBT], "inconclusive"),
        (0.0, [HARM], "rejected"),
        (-0.05, [DOUBT], "rejected"),
    ],
)
def test_harm_rejects_whatever_the_mean_and_doubt_takes_back_an_acceptance(mean, objections, verdict):
    weighed = weigh(found(mean), objections, candidate=2)
    assert weighed.verdict == verdict
    assert weighed.interval == found(mean).interval


def test_the_sentence_names_all_the_harm_and_no_doubt_beside_it():
    assert weigh(found(0.05), [DOUBT, HARM, HARM], candidate=2).sentence == (
        "Rejected candidate 2: NDCG@10 rose by 0.050 (0.040 to 0.060) against live 1 on 400 held-out queries, but"
        " NDCG@10 fell by 0.050 on the 312 of tail_queries; NDCG@10 fell by 0.050 on the 312 of tail_queries."
    )


def test_a_gain_that_is_none_among_the_judged_is_doubted_where_more_of_the_candidates_documents_are_judged():
    assert better_known(found(0.0), (9.1, 7.5)) == Objection(
        "better_known",
        proven=False,
        sentence="of its first ten documents 9.1 are judged, of live's 7.5; among the judged alone"
        " NDCG@10 rose by 0.000 (-0.010 to 0.010)",
    )
    assert better_known(found(0.05), (9.1, 7.5)) is None
    assert better_known(found(0.0), (7.5, 9.1)) is None


def golden_found(queries: int, mean: float, spread: float):
    compared = arms(mean, spread, queries)
    return compare(*compared, EVEN, GatePolicy(), 0.0045, candidate=2, live=1, what="golden queries")


def test_golden_queries_that_fall_alike_prove_no_harm_while_they_are_few():
    assert golden_harm(golden_found(9, -0.37, 0.0).interval, 9) is None
    assert golden_harm(golden_found(10, -0.37, 0.0).interval, 10) is not None


def test_whom_the_golden_set_leaves_in_doubt_waits_for_the_clicks_that_it_stands_in_for():
    few = compare(*arms(0.05, 0.1, 40), EVEN, GatePolicy(), 0.0045, candidate=2, live=1)
    golden = golden_found(120, 0.02, 0.1)
    assert (golden.verdict, golden.enough is not None) == ("inconclusive", True)
    assert by_golden(few, golden, GatePolicy(), candidate=2).enough == GatePolicy().min_queries
