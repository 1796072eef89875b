from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.click_model import ClickModel
from relevanced.daemon.holdout import HoldoutPolicy, split
from relevanced.daemon.judgments import judge
from relevanced.daemon.pooling import PoolingPolicy, pool_siblings
from relevanced.daemon.queries import cluster_key

POLICY = PoolingPolicy()
MODEL = ClickModel(
    propensities=1 / np.arange(1, 51),
    click_rates=np.array([0.1, 0.6]),
    priors=np.array([0.4, 0.1, 0.02]),
    iterations=1,
    pushed=0.001,
)
Row = tuple[str, str, int, int, int]  # query_key, document_id, position, shown, clicks
ONE, OTHER = "skin rash", "rash of the skin"
keys = st.sampled_from([ONE, OTHER, "rashes skin", "fever", "the fever", "itch", "skin rash child"])
cell = st.tuples(keys, st.sampled_from(["d1", "d2", "d3"]), st.integers(1, 50), st.integers(1, 40), st.integers(0, 40))
tables = st.lists(cell.map(lambda row: (*row[:4], min(row[3:]))), max_size=12, unique_by=lambda row: row[:3])


def ranks(*rows: tuple[str, str, int]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    kinds = {"query_key": pa.string(), "document_id": pa.string(), "rank": pa.int32()}
    return pa.table({name: pa.array(column, kind) for (name, kind), column in zip(kinds.items(), columns, strict=True)})


RANKS = ranks((ONE, "d1", 1), (OTHER, "d1", 2))


def judged(*rows: Row, model: ClickModel = MODEL) -> pa.Table:
    kinds = {"query_key": pa.string(), "document_id": pa.string(), "position": pa.int32()}
    kinds |= {"shown": pa.float64(), "clicks": pa.float64()}
    columns = list(zip(*rows, strict=True)) or [()] * 5
    evidence = {name: pa.array(column, kind) for (name, kind), column in zip(kinds.items(), columns, strict=True)}
    return judge(pa.table(evidence), RANKS, model)


def pooled(judgments: pa.Table, share: float = POLICY.sibling_share) -> pa.Table:
    return pool_siblings(judgments, RANKS, MODEL.priors, PoolingPolicy(sibling_share=share))


def by_pair(judgments: pa.Table) -> dict[tuple[str, str], dict]:
    return {(row["query_key"], row["document_id"]): row for row in judgments.to_pylist()}


@given(tables)
def test_without_siblings_nothing_changes(rows):
    first_of = {cluster_key(key): key for key, *_ in reversed(rows)}
    alone = judged(*(row for row in rows if first_of[cluster_key(row[0])] == row[0]))
    assert pooled(alone).drop_columns("siblings").equals(alone)


@given(tables)
def test_nor_does_it_where_siblings_have_no_share(rows):
    assert pooled(judged(*rows), share=0.0).drop_columns("siblings").equals(judged(*rows))


@given(st.integers(1, 50), st.integers(1, 30), st.integers(1, 50), st.integers(1, 30))
def test_clicks_under_both_raise_both_and_make_both_surer(position, clicks, other_position, other_clicks):
    honest = replace(MODEL, pushed=0.0)
    rows = ((ONE, "d1", position, clicks, clicks), (OTHER, "d1", other_position, other_clicks, other_clicks))
    alone = judged(*rows, model=honest)
    for before, after in zip(alone.to_pylist(), pooled(alone).to_pylist(), strict=True):
        assert after["grade"] > before["grade"] or before["grade"] > 1 - 1e-9
        assert after["weight"] >= before["weight"]


@given(tables)
def test_only_queries_of_equal_stems_hear_one_another(rows):
    """So nothing crosses the sides of the holdout: each side judges as if there were no other."""
    judgments = judged(*rows)
    keys = pc.unique(judgments["query_key"])
    never = pa.nulls(len(keys), pa.timestamp("us", "UTC"))
    typed = pa.table({"query_key": keys, "first_typed": never, "last_typed": never})
    sides = (side.select(judgments.schema.names) for side in split(judgments, typed, HoldoutPolicy(share=0.5)))
    apart, together = (by_pair(pooled(side)) for side in sides), by_pair(pooled(judgments))
    assert {pair: row for side in apart for pair, row in side.items()} == together


@given(tables)
def test_every_document_of_a_cluster_is_judged_for_each_of_its_queries_and_all_stay_probabilities(rows):
    table = pooled(judged(*rows))
    documents: dict[str, set[str]] = {}
    for key, document, *_ in rows:
        documents.setdefault(cluster_key(key), set()).add(document)
    wanted = {(key, document) for key, *_ in rows for document in documents[cluster_key(key)]}
    assert list(by_pair(table)) == sorted(wanted)
    for name in ("grade", "weight", "pushed", "inclusion"):
        assert np.all((table[name].to_numpy() >= 0) & (table[name].to_numpy() <= 1)), name
    assert np.all(table["grade"].to_numpy() + table["pushed"].to_numpy() <= 1 + 1e-9)


def test_the_pooled_grade_is_bayes_theorem_with_half_the_siblings_evidence():
    """A click at 2 under the one has odds 6; the other was not shown it, and has prior .1 there."""
    row = by_pair(pooled(judged((ONE, "d1", 2, 1, 1), (OTHER, "d2", 1, 1, 0))))[OTHER, "d1"]
    said = by_pair(judged((ONE, "d1", 2, 1, 1)))[ONE, "d1"]
    odds = 0.1 / 0.9 * np.exp(0.5 * said["log_odds"] * (1 - said["pushed"]))
    assert row["grade"] == pytest.approx(odds / (1 + odds))
    assert (row["prior"], row["log_odds"], row["expected_clicks"], row["places"]) == (0.1, 0, 0, [])
    assert row["inclusion"] == said["inclusion"]


def test_what_is_pushed_under_one_wording_is_not_pushed_under_all():
    spam = [(ONE, "d1", 40, 30, 30), (OTHER, "d1", 1, 2, 0)]
    table = by_pair(pooled(judged(*spam)))
    assert table[ONE, "d1"]["pushed"] > 0.99
    assert table[OTHER, "d1"]["grade"] < 0.5


def test_evidence_that_is_sure_stays_sure_and_nothing_overflows():
    table = by_pair(pooled(judged((ONE, "d2", 1, 10**6, 10**6), (OTHER, "d2", 1, 10**6, 0))))
    assert all(np.isfinite([row[name] for name in ("grade", "weight", "pushed")]).all() for row in table.values())
