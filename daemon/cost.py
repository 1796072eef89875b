"""
What a version has cost: seconds by device, and money where prices are set.

In:  the object `cost` of a version's manifest, kind -> where -> seconds; prices. Out: sentences and money. Training is
in it from the start; the gate, which encodes documents too, and prepare add to the version's row what came after.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge

CPU: Final = "cpu"
POSTGRES: Final = "postgres"  # which works on a CPU

# backfill: all of filling the index, with the encoding that it took; hnsw: building the graph over what is filled.
CostKind = Literal["training", "encoding", "backfill", "hnsw"]
_WORDS: Final = {
    "training": "Training took {}.",
    "encoding": "Encoding documents took {}.",
    "backfill": "Filling its index took {}, encoding included.",
    "hnsw": "Building its HNSW took {}.",
}
_PAID: Final = ("training", "encoding", "hnsw")  # the rest of the backfill is mostly the encoding again


@dataclass(frozen=True, kw_only=True, slots=True)
class PricesPolicy:
    """What machines cost; None: no money is shown of them."""

    cpu_hour: Annotated[float, Ge(0)] | None = None  # of the machine's CPUs together, and of those of Postgres
    gpu_hour: Annotated[float, Ge(0)] | None = None  # of one GPU
    currency: str = "EUR"  # put behind the amount


def cost_sentences(cost: Mapping[str, Mapping[str, float]], prices: PricesPolicy) -> Iterator[str]:
    """Say what a version has cost, kind by kind, and in all."""
    for kind, words in _WORDS.items():
        spent = [f"{seconds:,.1f} s{_on(where)}" for where, seconds in cost.get(kind, {}).items()]
        if spent:
            yield words.format(" and ".join(spent))
    if (amount := money(cost, prices)) is not None:
        yield f"At the prices of today that is {amount:,.4g} {prices.currency}."


def money(cost: Mapping[str, Mapping[str, float]], prices: PricesPolicy) -> float | None:
    """Price the seconds of each device; None where one of them has no price, since a part of a cost misleads."""
    amounts = []
    for kind in _PAID:
        for where, seconds in cost.get(kind, {}).items():
            hour = prices.cpu_hour if where in (CPU, POSTGRES) else prices.gpu_hour
            if hour is None:
                return None
            amounts.append(seconds / 3600 * hour)
    return sum(amounts) if amounts else None


def cost_numbers(cost: Mapping[str, Mapping[str, float]], prices: PricesPolicy) -> dict[str, Any]:
    """Give the same for machines: seconds, money and currency, or no money."""
    amount = money(cost, prices)
    return {**cost, **({} if amount is None else {"money": amount, "currency": prices.currency})}


def _on(where: str) -> str:
    if where == POSTGRES:
        return ""
    return " on a CPU" if where == CPU else f" on {where}"
