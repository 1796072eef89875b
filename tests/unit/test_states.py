import re
from pathlib import Path
from typing import get_args

import pytest

from relevanced import sql
from relevanced.daemon.records import Step, Verdict, VersionState
from relevanced.daemon.states import MOVES, next_step

SCHEMA = sql.script("postgres", "schema.sql")
PAGE = (Path(__file__).parents[2] / "docs" / "cycle.md").read_text()


def enum(name: str) -> tuple[str, ...]:
    declared = re.search(rf"CREATE TYPE (?:relevanced\.)?{name} AS ENUM \((.*?)\)", SCHEMA, re.DOTALL)
    assert declared, f"schema.sql declares {name}"
    return tuple(re.findall(r"'(\w+)'", declared[1]))


@pytest.mark.parametrize(
    ("name", "values"),
    [("cycle_step_name", Step), ("step_verdict", Verdict), ("version_state", VersionState)],
)
def test_the_enums_of_the_schema_are_those_of_the_code(name: str, values: object) -> None:
    assert enum(name) == get_args(values)


def test_the_page_about_the_cycle_lists_every_move_and_no_other() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
    assert {(step, verdict): following for step, verdict, following in rows if step != "step"} == MOVES


def test_every_step_can_be_reached_and_leads_to_the_end() -> None:
    seen, waiting = set(), ["mine"]
    while waiting:
        step = waiting.pop()
        seen.add(step)
        waiting += [to for (origin, _), to in MOVES.items() if origin == step and to not in seen]
    assert seen == set(get_args(Step))


@pytest.mark.parametrize("step", [step for step in get_args(Step) if step != "ended"])
def test_a_failed_step_ends_the_cycle(step: Step) -> None:
    assert next_step(step, "failed") == "ended"


def test_a_move_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not move on from ended"):
        next_step("ended", "failed")
