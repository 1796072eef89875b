from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevanced.daemon.click_model import ClickModel, ClickModelPolicy
from relevanced.daemon.judgments import judge, judge_naively
from relevanced.daemon.pairs import OTHERS, SURFACES, gather, pool_ranks, pool_words, prior_ranks
from tests.clicks import LOVBENCH, RECIPROCAL, Log, Traffic, fit_click_model, simulate

POLICY = ClickModelPolicy()
MODEL = ClickModel(
    propensities=1 / np.arange(1, 51), click_rates=np.array([0.1, 0.6]), priors=np.array([0.4, 0.1, 0.02]), iterations=1
)
COLUMNS = ("query_key", "document_id", "position", "version", "shown", "clicks")
Row = tuple[str, str, int, str, int, int]


def evidence(*rows: Row) -> pa.Table:
    kinds = (pa.string(), pa.string(), pa.int32(), pa.string(), pa.float64(), pa.float64())
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(COLUMNS, columns, kinds, strict=True)})


def ranks(*rows: tuple[str, str, int]) -> pa.Table:
    queries, documents, numbers = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table(
        {
            "query_key": pa.array(queries, pa.string()),
            "document_id": pa.array(documents, pa.string()),
            "rank": pa.array(numbers, pa.int32()),
        }
    )


RANKS = ranks(("q1", "d1", 1), ("q1", "d2", 2), ("q2", "d1", 1))
cell = st.tuples(
    st.sampled_from(["q1", "q2"]),
    st.sampled_from(["d1", "d2", "d3"]),
    st.integers(1, 50),
    st.sampled_from(["1", "2"]),
    st.integers(1, 1000),
    st.integers(0, 1000),
).map(lambda row: (*row[:5], min(row[4], row[5])))
tables = st.lists(cell, min_size=1, max_size=12, unique_by=lambda row: row[:4])


def judged(table: pa.Table, pair: tuple[str, str] = ("q1", "d1"), model: ClickModel = MODEL) -> dict[str, float]:
    return next(row for row in judge(table, RANKS, model).to_pylist() if (row["query_key"], row["document_id"]) == pair)


# What must hold of any evidence


@given(tables)
@settings(max_examples=30)
def test_every_estimate_is_a_probability_whatever_the_evidence(rows):
    model = fit_click_model(evidence(*rows), RANKS, POLICY)
    for estimate in (model.propensities, model.click_rates, model.priors):
        assert np.all((estimate > 0) & (estimate <= 1))
    assert model.propensities[0] == 1
    assert model.click_rates[0] < model.click_rates[1]
    assert np.all(np.diff(model.priors) <= 0), "a worse rank never makes a document likelier"
    judgments = judge(evidence(*rows), RANKS, model)
    for column in ("grade", "weight"):
        assert np.all((judgments[column].to_numpy() >= 0) & (judgments[column].to_numpy() <= 1))
    assert np.all(judgments["expected_clicks"].to_numpy() <= judgments["shown"].to_numpy())


@given(tables, st.randoms())
@settings(max_examples=30)
def test_the_order_of_the_rows_does_not_matter(rows, rng):
    shuffled = rng.sample(rows, len(rows))
    model, other = (fit_click_model(evidence(*some), RANKS, POLICY) for some in (rows, shuffled))
    assert np.array_equal(model.propensities, other.propensities)
    assert judge(evidence(*rows), RANKS, model).equals(judge(evidence(*shuffled), RANKS, other))


@given(tables)
def test_every_pair_that_was_shown_has_one_judgment_with_all_its_counts(rows):
    table = evidence(*rows)
    judgments = judge(table, RANKS, MODEL)
    assert set(zip(judgments["query_key"].to_pylist(), judgments["document_id"].to_pylist(), strict=True)) == {
        row[:2] for row in rows
    }
    for column in ("shown", "clicks"):
        assert pc.sum(judgments[column]) == pc.sum(table[column])
    assert judgments["query_key"].null_count == judgments["grade"].null_count == 0


@given(st.integers(1, 50), st.integers(0, 30), st.integers(0, 30), st.integers(1, 50))
def test_a_click_never_lowers_a_grade(position, shown, clicks, other_position):
    clicks = min(shown, clicks)
    base = [("q1", "d1", position, "1", shown, clicks)]
    before = judged(evidence(*base))["grade"]
    assert judged(evidence(*base, ("q1", "d1", other_position, "2", 1, 1)))["grade"] >= before
    if clicks < shown:
        assert judged(evidence(("q1", "d1", position, "1", shown, clicks + 1)))["grade"] >= before


@given(tables, st.integers(1, 50))
def test_more_skipped_impressions_at_the_top_never_raise_a_grade(rows, skips):
    rows = [*rows, ("q1", "d1", 3, "3", 1, 1)]
    assert judged(evidence(*rows, ("q1", "d1", 1, "4", skips, 0)))["grade"] <= judged(evidence(*rows))["grade"]


@given(tables)
def test_twice_the_evidence_is_surer_in_the_same_direction(rows):
    once, twice = (
        judge(evidence(*((*row[:4], row[4] * times, row[5] * times) for row in rows)), RANKS, MODEL) for times in (1, 2)
    )
    assert np.all(twice["weight"].to_numpy() >= once["weight"].to_numpy())
    prior = np.array([MODEL.priors[place] for place in _places(once)])
    grade, sharper = once["grade"].to_numpy(), twice["grade"].to_numpy()
    assert np.all((sharper - grade) * (grade - prior) >= -1e-12)


def _places(judgments: pa.Table) -> list[int]:
    known = {(row["query_key"], row["document_id"]): row["rank"] - 1 for row in RANKS.to_pylist()}
    return [known.get((row["query_key"], row["document_id"]), 2) for row in judgments.to_pylist()]


@given(st.integers(1, 50), st.integers(2, 50))
def test_evidence_is_the_same_whichever_version_showed_it(position, shown):
    together = judged(evidence(("q1", "d1", position, "1", shown, 1)))
    apart = judged(evidence(("q1", "d1", position, "1", shown - 1, 1), ("q1", "d1", position, "2", 1, 0)))
    nested = ("places", "responses")
    assert all(together[name] == apart[name] for name in nested)
    assert {name: together[name] for name in together if name not in nested} == pytest.approx(
        {name: apart[name] for name in apart if name not in nested}
    )


# What a judgment says


def test_the_grade_is_bayes_theorem():
    """Prior .4; clicked at 2 (theta .5), then skipped at 1: odds .4/.6 * (.5 * .6)/(.5 * .1) * (1 - .6)/(1 - .1)."""
    odds = 0.4 / 0.6 * 6 * 0.4 / 0.9
    judgment = judged(evidence(("q1", "d1", 2, "1", 1, 1), ("q1", "d1", 1, "2", 1, 0)))
    assert judgment["grade"] == pytest.approx(odds / (1 + odds))
    evidence_odds = 6 * 0.4 / 0.9
    assert judgment["weight"] == pytest.approx(2 * evidence_odds / (1 + evidence_odds) - 1)
    assert judgment["expected_clicks"] == pytest.approx(0.6 * (0.5 + 1))
    assert (judgment["shown"], judgment["clicks"], judgment["source"]) == (2, 1, "clicks")


def test_a_document_that_nobody_could_have_seen_keeps_its_prior_and_weighs_nothing():
    judgment = judged(evidence(("q1", "d2", 50, "1", 1, 0)), ("q1", "d2"))
    assert judgment["grade"] == pytest.approx(0.1, abs=0.001)
    assert judgment["weight"] < 0.01


def test_a_document_that_the_base_model_did_not_rank_has_the_last_prior():
    assert judged(evidence(("q1", "new", 50, "1", 1, 0)), ("q1", "new"))["grade"] == pytest.approx(0.02, abs=0.001)


def test_a_skip_at_the_top_says_more_than_one_further_down():
    top, low = (judged(evidence(("q1", "d1", position, "1", 3, 0)))["grade"] for position in (1, 8))
    assert top < low < 0.4


def test_thousands_of_impressions_do_not_overflow():
    table = evidence(("q1", "d1", 1, "1", 10**9, 10**9), ("q1", "d2", 1, "1", 10**9, 0))
    assert judged(table)["grade"] == 1
    assert judged(table, ("q1", "d2"))["grade"] == 0


def test_without_evidence_the_model_is_its_start():
    model = fit_click_model(evidence(), ranks(), POLICY)
    assert model.propensities == pytest.approx(1 / np.arange(1, 51))
    assert len(judge(evidence(), ranks(), model)) == 0


def test_where_everything_is_clicked_a_click_still_counts_for_a_document():
    """One click on each of many pairs of deep rank: likelier noise than relevance, so all of it would go into a_0."""
    clicks = evidence(*(("q3", f"d{number}", 1, "1", 1, 1) for number in range(200)))
    other, relevant = fit_click_model(clicks, ranks(("q3", "d0", 30)), POLICY).click_rates
    assert relevant > 1.4 * other


def test_two_models_ranks_meet_in_their_geometric_mean():
    base, live = (
        ranks(("q", "d1", 1), ("q", "d2", 2), ("q", "d3", 3)),
        ranks(("q", "d2", 1), ("q", "d1", 4), ("q", "d9", 9)),
    )
    pooled = {row["document_id"]: row["rank"] for row in pool_ranks(base, live).to_pylist()}
    assert pooled == {"d1": 2, "d2": 1, "d3": 5, "d9": 6}  # d3 counts as tenth of live, d9 as fourth of base
    assert pool_ranks(base, base).sort_by("rank").equals(base)
    assert len(pool_ranks(ranks(), ranks())) == 0


def test_words_are_pooled_with_the_models_where_they_find_anything():
    models = ranks(("q", "d1", 1), ("q", "d2", 2), ("wordless", "d1", 1), ("wordless", "d3", 2))
    words = ranks(("q", "d2", 1), ("q", "d8", 2))
    pooled = {(row["query_key"], row["document_id"]): row["rank"] for row in pool_words(models, words).to_pylist()}
    both = {("q", "d1"): 2, ("q", "d2"): 1, ("q", "d8"): 2}  # d1 counts as third by words, d8 as third by the models
    assert pooled == {**both, ("wordless", "d1"): 1, ("wordless", "d3"): 2}
    assert pool_words(models, ranks()).equals(models)


# What is recovered of a known truth


@cache
def log(**traffic) -> Log:
    return simulate(Traffic(**traffic))


def propensity_error(model: ClickModel, curve: np.ndarray) -> float:
    """Mean relative error below the top, where it is 1 by definition."""
    return float(np.abs(model.propensities[1 : len(curve)] / curve[1:] - 1).mean())


@pytest.mark.parametrize(
    ("curve", "bound"), [(LOVBENCH, 0.09), (RECIPROCAL, 0.09), (np.linspace(1, 0.55, 10), 0.09)]
)  # measured over four seeds: .04 to .06 each; the start is 48 %, 0 % and 62 % off
def test_the_propensities_are_found(curve, bound):
    clicks = log(curve=tuple(curve), swap_probability=0.25)
    model = fit_click_model(clicks.evidence, clicks.ranks, POLICY)
    assert propensity_error(model, curve) < bound
    assert model.click_rates == pytest.approx([0.1, 0.7], abs=0.04)


def test_the_ranks_of_later_versions_keep_the_propensities_honest():
    """Measured over four seeds: 14 % off by the base model's ranks alone, 5 % with those of the live version."""
    clicks = log(skill=(2.0, 2.3, 2.6), mean_sessions=24.0, swap_probability=0.25)
    pooled = pool_ranks(clicks.ranks, clicks.live_ranks)
    errors = [
        propensity_error(fit_click_model(clicks.evidence, table, POLICY), LOVBENCH) for table in (clicks.ranks, pooled)
    ]
    assert errors[1] < errors[0]
    assert errors[1] < 0.09


def test_little_traffic_does_not_lead_far_astray():
    clicks = log(queries=60, curve=tuple(RECIPROCAL))
    assert propensity_error(fit_click_model(clicks.evidence, clicks.ranks, POLICY), RECIPROCAL) < 0.3


def precision_and_recall(clicks: Log) -> tuple[float, float]:
    judgments = judge(clicks.evidence, clicks.ranks, fit_click_model(clicks.evidence, clicks.ranks, POLICY))
    relevant, chosen = clicks.is_relevant(judgments), judgments["grade"].to_numpy() >= 0.5
    return float(relevant[chosen].mean()), float(relevant[chosen].sum() / relevant.sum())


def naive_precision(clicks: Log) -> float:
    """Of taking every clicked pair for relevant."""
    return float(clicks.is_relevant(clicks.evidence.filter(pc.greater(clicks.evidence["clicks"], 0))).mean())


@pytest.mark.parametrize("abandonment", [0.0, 0.3])
def test_pairs_likelier_relevant_than_not_mostly_are_unlike_clicked_ones(abandonment):
    clicks = log(abandonment=abandonment)
    precision, recall = precision_and_recall(clicks)
    assert precision > 0.8  # measured .86 without abandonment, .84 with it; naive .5
    assert recall > 0.38  # .48 and .42; naive .62 and .52
    assert naive_precision(clicks) < 0.6


def test_grades_mean_what_they_say():
    clicks = log(swap_probability=0.25)
    judgments = judge(clicks.evidence, clicks.ranks, fit_click_model(clicks.evidence, clicks.ranks, POLICY))
    relevant, grade = clicks.is_relevant(judgments), judgments["grade"].to_numpy()
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1.01)):
        within = (grade >= low) & (grade < high)
        assert relevant[within].mean() == pytest.approx(grade[within].mean(), abs=0.07)


@pytest.mark.parametrize(("reading", "least", "naive"), [("cascade", 0.8, 0.65), ("trust", 0.7, 0.5)])
def test_who_reads_otherwise_than_the_model_assumes_is_understood_all_the_same(reading, least, naive):
    """Measured: precision .87 for a cascade (naive .59), .75 for trust (.43), recall .48; grades at most .06 off."""
    clicks = log(reading=reading, swap_probability=0.1)
    precision, recall = precision_and_recall(clicks)
    assert precision > least
    assert recall > 0.38
    assert naive_precision(clicks) < naive
    judgments = judge(clicks.evidence, clicks.ranks, fit_click_model(clicks.evidence, clicks.ranks, POLICY))
    relevant, grade = clicks.is_relevant(judgments), judgments["grade"].to_numpy()
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1.01)):
        within = (grade >= low) & (grade < high)
        assert relevant[within].mean() == pytest.approx(grade[within].mean(), abs=0.1)


def test_below_a_click_less_is_looked_at_where_people_stop_when_they_have_found_something():
    clicks = log(reading="cascade", mean_sessions=40.0, swap_probability=0.25)
    model = fit_click_model(clicks.evidence, clicks.ranks, POLICY)
    free, below = model.examination[0]
    assert np.all(below[1:4] < 0.8 * free[1:4])


def test_what_is_clicked_wherever_it_stands_is_pushed_and_not_relevant():
    """A relevant document at position 8 is clicked by a twentieth of those who see it; this one by every second."""
    clicks = log(mean_sessions=20.0, swap_probability=0.25)
    ranked = clicks.ranks.filter(pc.equal(clicks.ranks["rank"], 8)).slice(1300, 20)  # seldom typed
    pushing = pa.table(
        {
            "query_key": ranked["query_key"],
            "document_id": ranked["document_id"],
            "position": pa.array([8] * 20, pa.int32()),
            "after_click": [False] * 20,
            "version": ["1"] * 20,
            "shown": [10.0] * 20,
            "clicks": [5.0] * 20,
        }
    )
    evidence = pa.concat_tables([clicks.evidence, pushing])
    for policy, wanted in ((POLICY, 0.1), (ClickModelPolicy(pushed_share=0), 0.9)):
        judgments = judge(evidence, clicks.ranks, fit_click_model(evidence, clicks.ranks, policy))
        pair = ["query_key", "document_id"]
        pushed = judgments.select([*pair, "grade"]).join(pushing.select(pair), pair, join_type="inner")
        assert pc.mean(pushed["grade"]).as_py() == pytest.approx(wanted, abs=0.1)


def test_the_fit_ends_by_itself():
    clicks = log()
    assert fit_click_model(clicks.evidence, clicks.ranks, POLICY).iterations < POLICY.max_iterations


def test_inclusion_is_how_often_a_relevant_document_is_found():
    """Over all relevant documents that were shown, and weighed by it the found ones stand for all."""
    log = simulate(Traffic(queries=3000, seed=5))
    judged = judge(log.evidence, log.ranks, fit_click_model(log.evidence, log.ranks, ClickModelPolicy()))
    relevant = log.is_relevant(judged)
    inclusion, found = (judged[name].to_numpy()[relevant] for name in ("inclusion", "grade"))
    found = found >= 0.5
    for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.01)):
        bin_ = (inclusion >= low) & (inclusion < high)
        assert found[bin_].mean() == pytest.approx(inclusion[bin_].mean(), abs=0.07), f"from {low} to {high}"
    enough = inclusion >= 0.1
    assert (1 / inclusion[enough & found]).sum() == pytest.approx(enough.sum(), rel=0.1)


@given(tables)
def test_at_face_value_every_click_is_right_and_every_other_showing_is_wrong(rows):
    judgments = judge_naively(evidence(*rows))
    assert judgments.schema.names == judge(evidence(*rows), RANKS, MODEL).schema.names
    clicked = {row[:2] for row in rows if row[5]}
    for row in judgments.to_pylist():
        assert row["grade"] == ((row["query_key"], row["document_id"]) in clicked)


def test_however_many_devices_there_are_the_curves_stay_few_and_nothing_is_lost():
    names = [f"shop/{number:04}" for number in range(500)]
    rows = {"query_key": "q", "document_id": "d", "position": 1, "response": None, "after_click": False, "clicks": 0.0}
    evidence = pa.Table.from_pylist(
        [{**rows, "surface": name, "shown": 1.0 + (name < "shop/0019")} for name in reversed(names)]
    )
    ranks = pa.table({"query_key": ["q"], "document_id": ["d"], "rank": pa.array([1], pa.int32())})
    pairs = gather(evidence, ranks, 1)
    assert pairs.surfaces == [OTHERS, *names[: SURFACES - 1]]
    assert pairs.skips.tolist() == [481.0, *[2.0] * 19]


def test_the_prior_goes_by_the_newest_candidate_where_it_was_taught_nothing():
    base = ranks(("taught", "d1", 1), ("other", "d1", 4))
    live = ranks(("taught", "d1", 4), ("other", "d1", 1))
    newest = ranks(("taught", "d1", 9), ("other", "d1", 1), ("other", "d2", 2))

    def found(live_run: pa.Table, newest_run: pa.Table) -> dict[tuple[str, str], int]:
        rows = prior_ranks(base, live_run, newest_run, {"taught"}).to_pylist()
        return {(row["query_key"], row["document_id"]): row["rank"] for row in rows}

    assert found(live, newest) == {("taught", "d1"): 2, ("other", "d1"): 2, ("other", "d2"): 3}
    assert found(base, newest) == {("taught", "d1"): 1, ("other", "d1"): 2, ("other", "d2"): 3}
    assert found(base, base) == {("taught", "d1"): 1, ("other", "d1"): 4}
