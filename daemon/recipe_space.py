"""
Where a search for a better recipe looks: few settings of [training], each within bounds that make sense.

In:  the present recipe, which settings a person has set, the triplets' numbers. Out: the space, and the way from a
point in it to settings and back; read by recipe_search and tuning. docs/training.md says the same in a table.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from relevanced.daemon.recipe import TrainingPolicy

Value = float | int | None
Point = Mapping[str, Value]  # name of a dimension -> where in it

# LoRA wants a higher rate for the same step; a rate is searched as that of a training of all weights, so that it means
# the same whatever the rank.
_LORA_RATE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from low to high; by their logarithm those that are not whole."""

    low: float
    high: float
    whole: bool = False

    def with_(self, value: Value) -> "Span":
        """Reach as far as this value, too."""
        assert value is not None  # only a Choice has None
        return replace(self, low=min(self.low, value), high=max(self.high, value))


@dataclass(frozen=True, slots=True)
class Choice:
    """A few values."""

    values: tuple[Value, ...]

    def with_(self, value: Value) -> "Choice":
        """Offer this value, too."""
        return self if value in self.values else Choice((*self.values, value))


Dimension = Span | Choice
Space = Mapping[str, Dimension]

_SPACE: Final[Space] = {
    "learning_rate": Span(5e-5, 8e-4),
    "epochs": Span(1, 3, whole=True),
    "temperature": Span(0.02, 0.1),
    "batch_size": Choice((32, 64, 128, 256)),
    "mask_above": Choice((None, 0.1, 0.2)),
    "keep_base": Choice((0.0, 0.1, 0.2, 0.3, 0.5)),
    "lora_rank": Choice((0, 16, 64)),
}
SEARCHED: Final = frozenset(_SPACE) | {"negatives"}


def free(by_hand: Collection[str]) -> frozenset[str]:
    """Name the settings that a search may choose, where a person has set others: what a person sets is left alone."""
    # A rate is meant for one rank, so who sets it keeps the rank, too.
    return SEARCHED - {*by_hand, *(["lora_rank"] if "learning_rate" in by_hand else [])}


def applicable(found: Point, rank: int, present: TrainingPolicy, by_hand: Collection[str]) -> dict[str, Value]:
    """
    Take those of found settings that a person has not set since, and that do not hang on one that was.

    Args:
        rank: LoRA's, with which they were found; the learning rate is good for no other.
    """
    taken = {name: value for name, value in found.items() if name in free(by_hand)}
    if taken.get("lora_rank", present.lora_rank) != rank:
        taken.pop("learning_rate", None)
    return taken


def space_of(present: TrainingPolicy, by_hand: Collection[str], triplets: int, most_negatives: int) -> Space:
    """
    Give the space, wide enough for the present recipe.

    Args:
        triplets: that teach; a batch holds no more.
        most_negatives: of one triplet.
    """
    wanted = free(by_hand)
    space = dict(_SPACE)
    space["batch_size"] = Choice(tuple(size for size in (32, 64, 128, 256) if size <= triplets))
    if most_negatives:
        space["negatives"] = Span(0, most_negatives, whole=True)
    if present.loss == "margin":
        del space["temperature"]  # which that loss does not read
    here = point_of(present, most_negatives)
    return {name: dimension.with_(here[name]) for name, dimension in space.items() if name in wanted}


def point_of(policy: TrainingPolicy, most_negatives: int) -> dict[str, Value]:
    """Give the place of a recipe in every dimension there may be."""
    values = asdict(policy)
    used = most_negatives if policy.negatives is None else min(policy.negatives, most_negatives)
    rate = policy.learning_rate / (_LORA_RATE if policy.lora_rank else 1)
    return {**{name: values[name] for name in _SPACE}, "learning_rate": rate, "negatives": used}


def settings_of(point: Point, present: TrainingPolicy, most_negatives: int) -> dict[str, Value]:
    """
    Give the settings of a point, for people with three digits.

    Args:
        present: for what is not searched.
    """
    settings = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in point.items()}
    rate = point.get("learning_rate")
    if rate is not None:
        lora = settings.get("lora_rank", present.lora_rank)
        settings["learning_rate"] = float(f"{rate * (_LORA_RATE if lora else 1):.3g}")
    if settings.get("negatives") == most_negatives:
        settings["negatives"] = None  # all, however many later triplets may have
    return settings
