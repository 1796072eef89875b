"""Where a search for a recipe looks, and what of a recipe that was found holds beside what a person has set."""

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from relevanced.daemon.errors import BadInput
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.recipe_space import SEARCHED, Choice, free, point_of, settings_of, space_of
from relevanced.daemon.tuned import Found, Tuned

PRESENT = TrainingPolicy()
FOUND = Found(
    search=3,
    trial=7,
    cycle_id=12,
    settings={"learning_rate": 1e-3, "lora_rank": 16, "epochs": 2, "mask_above": None},
    rank=16,
    gain=0.031,
    low=0.012,
    found_at="2026-02-03T04:05:06+00:00",
)
by_hand = st.frozensets(st.sampled_from([field.name for field in fields(TrainingPolicy)]))
presents = st.builds(
    TrainingPolicy,
    loss=st.sampled_from(["contrastive", "margin"]),
    learning_rate=st.sampled_from([1e-5, 2e-4, 1e-3, 3e-2]),
    epochs=st.integers(1, 9),
    batch_size=st.integers(2, 1000),
    lora_rank=st.sampled_from([0, 8, 64]),
    negatives=st.none() | st.integers(0, 5),
    keep_base=st.sampled_from([0.0, 0.25]),
)


def drawn(space, data):
    """A point as a sampler draws it."""
    point = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            point[name] = data.draw(st.sampled_from(dimension.values))
        elif dimension.whole:
            point[name] = data.draw(st.integers(int(dimension.low), int(dimension.high)))
        else:
            point[name] = data.draw(st.floats(dimension.low, dimension.high))
    return point


@given(presents, by_hand, st.integers(8, 5000), st.integers(0, 4), st.data())
def test_every_point_is_a_recipe_that_leaves_alone_what_a_person_has_set(present, by_hand, triplets, most, data):
    space = space_of(present, by_hand, triplets, most)
    settings = settings_of(drawn(space, data), present, most)
    assert settings.keys() == space.keys() <= SEARCHED - by_hand
    TypeAdapter(TrainingPolicy).validate_python(asdict(replace(present, **settings)))


@given(presents, by_hand, st.integers(8, 5000), st.integers(0, 4))
def test_the_present_recipe_lies_in_the_space_and_comes_back_as_it_was(present, by_hand, triplets, most):
    space = space_of(present, by_hand, triplets, most)
    here = {name: point_of(present, most)[name] for name in space}
    for name, dimension in space.items():
        inside = here[name] in dimension.values if isinstance(dimension, Choice) else None
        assert inside or dimension.low <= here[name] <= dimension.high
    again = replace(present, **settings_of(here, present, most))
    used = [most if one.negatives is None else min(one.negatives, most) for one in (again, present)]
    assert used[0] == used[1]
    assert replace(again, negatives=None) == replace(present, negatives=None)


def test_a_batch_holds_no_more_than_there_are_triplets_and_a_loss_is_asked_only_what_it_reads():
    assert space_of(PRESENT, (), 100, 2)["batch_size"] == Choice((32, 64))
    assert "temperature" not in space_of(replace(PRESENT, loss="margin"), (), 100, 2)
    assert "negatives" not in space_of(PRESENT, (), 100, 0)


def test_a_rate_and_a_rank_go_together():
    assert {"learning_rate", "lora_rank"}.isdisjoint(free({"learning_rate"}))
    point = {"learning_rate": 2e-4, "lora_rank": 16}
    assert settings_of(point, PRESENT, 0) == {"learning_rate": 1e-3, "lora_rank": 16}
    assert settings_of({"learning_rate": 2e-4}, replace(PRESENT, lora_rank=8), 0) == {"learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("by_hand", "expected"),
    [
        ((), {"learning_rate": 1e-3, "lora_rank": 16, "epochs": 2}),
        (("epochs", "threads"), {"learning_rate": 1e-3, "lora_rank": 16}),
        (("lora_rank",), {"epochs": 2}),  # the rate was found for another rank
        (("learning_rate",), {"epochs": 2}),
    ],
)
def test_what_a_person_sets_goes_before_what_was_found(tmp_path: Path, by_hand, expected):
    tuned = Tuned(tmp_path, frozenset(by_hand))
    tuned.keep(FOUND)
    assert tuned.over(PRESENT) == (replace(PRESENT, **expected), FOUND)


def test_where_a_person_sets_all_of_it_nothing_is_said_to_come_from_a_search(tmp_path: Path):
    tuned = Tuned(tmp_path, SEARCHED)
    tuned.keep(FOUND)
    assert tuned.over(PRESENT) == (PRESENT, None)


def test_a_kept_recipe_is_dropped_and_a_broken_one_says_how(tmp_path: Path):
    tuned = Tuned(tmp_path, frozenset())
    assert (tuned.found(), tuned.drop()) == (None, False)
    tuned.keep(FOUND)
    assert Tuned(tmp_path, frozenset()).found() == FOUND
    assert "search 3, trial 7, since 2026-02-03: epochs 2, learning_rate 0.001, lora_rank 16, mask_above none;" in (
        FOUND.sentence
    )
    (tmp_path / "recipe.json").write_text('{"search": 3}')
    with pytest.raises(BadInput, match="`relevanced tune drop` removes it"):
        tuned.over(PRESENT)
    assert tuned.drop()
    assert tuned.over(PRESENT) == (PRESENT, None)


def test_the_docs_name_every_setting_that_is_searched():
    docs = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    table = docs.partition("| setting | is searched |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == SEARCHED
