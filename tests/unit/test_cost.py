"""What a version has cost, in words and in money."""

import pytest

from relevanced.daemon.cost import PricesPolicy, cost_numbers, cost_sentences, money

COST = {
    "training": {"NVIDIA H200": 7200.0},
    "encoding": {"NVIDIA H200": 1800.0, "cpu": 900.0},
    "backfill": {"cpu": 2800.0},
    "hnsw": {"postgres": 2700.0},
}
PRICES = PricesPolicy(cpu_hour=0.4, gpu_hour=2.0, currency="CHF")


def test_each_device_has_its_price_and_encoding_counts_once() -> None:
    assert money(COST, PRICES) == pytest.approx(2.5 * 2.0 + (0.25 + 0.75) * 0.4)
    assert cost_numbers(COST, PRICES) == {**COST, "money": pytest.approx(5.4), "currency": "CHF"}


@pytest.mark.parametrize("prices", [PricesPolicy(), PricesPolicy(cpu_hour=0.4), PricesPolicy(gpu_hour=2.0)])
def test_where_a_price_is_missing_no_money_is_shown(prices: PricesPolicy) -> None:
    assert money(COST, prices) is None
    assert cost_numbers(COST, prices) == COST
    assert not [sentence for sentence in cost_sentences(COST, prices) if "prices" in sentence]


def test_what_has_cost_nothing_yet_says_nothing() -> None:
    assert list(cost_sentences({}, PRICES)) == []


def test_it_is_said_by_kind_and_device() -> None:
    assert list(cost_sentences(COST, PRICES)) == [
        "Training took 7,200.0 s on NVIDIA H200.",
        "Encoding documents took 1,800.0 s on NVIDIA H200 and 900.0 s on a CPU.",
        "Filling its index took 2,800.0 s on a CPU, encoding included.",
        "Building its HNSW took 2,700.0 s.",
        "At the prices of today that is 5.4 CHF.",
    ]
