"""How the command line speaks: sentences and JSON on stdout, progress bars on stderr, and only on a terminal."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from relevanced.daemon.ports import Progress as ProgressListener

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def say(sentence: str) -> None:
    """One sentence for people, as it is: square brackets of a user's text are no markup."""
    out.print(sentence, markup=False)


def say_json(value: Any) -> None:
    """One JSON document for machines; dates in ISO 8601, paths as text."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n")


def say_outcome(as_json: bool, sentence: str, numbers: Mapping[str, Any]) -> None:
    """What a command has done: its sentence, or with --json the sentence and the numbers."""
    if as_json:
        say_json({"sentence": sentence, **numbers})
    else:
        say(sentence)


def say_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under their headings, as wide as the terminal."""
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console(highlight=False, markup=False).print(table)


@contextmanager
def progress_bars() -> Iterator[ProgressListener]:
    """A listener that draws one bar for each label; a bar that is full goes away."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def listen(label: str, done: int, total: int, detail: str = "") -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            said = f"{label}, {detail}" if detail else label
            bars.update(tasks[label], completed=done, total=total, description=said)
            if done >= total:
                bars.remove_task(tasks.pop(label))

        yield listen
