"""
The command `compare`: how two versions differ on the held-out queries.

In:  options. Out: a table, a histogram of the queries, those that differ most side by side; or JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.opening import Json, opened

if TYPE_CHECKING:
    from relevanced.daemon.contrast import Contrast, QueryContrast

_EDGES = (-1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0)
_BAR = 40  # characters of the longest
_TITLE_CHARACTERS = 36

Number = Annotated[int, typer.Argument(help="Number of a version, as `relevanced versions` lists it.", min=1)]


def compare(
    context: typer.Context,
    first: Number,
    second: Number,
    cycle: Annotated[
        int | None, typer.Option(help="Whose held-out queries are asked; else the newest's.", min=1)
    ] = None,
    show: Annotated[int, typer.Option(help="Queries to show that got better, and as many that got worse.", min=0)] = 3,
    as_json: Json = False,
) -> None:
    """
    Compare two versions on the held-out queries, which neither was trained on.

    Examples:

      relevanced compare 1 2              the second against the first

      relevanced compare 4 5 --show 10    with ten queries of either kind side by side
    """
    from relevanced.daemon import history
    from relevanced.daemon.contrast import contrast
    from relevanced.daemon.documents import document_texts

    with opened(context) as parts, progress_bars() as progress:
        for number in (first, second):
            history.version(parts.database, number)
        k = parts.settings.privacy.k
        found = contrast(parts.stages, first, second, cycle, k, progress)
        if as_json:
            say_json({**asdict(found), "better_worse_alike": found.counts()})
            return
        better, worse, alike = found.counts()
        say(f"Version {second} against {first} on {len(found.queries):,} held-out queries of cycle {found.cycle_id}.")
        _say_measures(found)
        say(f"\nVersion {second} is better for {better:,} queries, worse for {worse:,}, and alike for {alike:,}.")
        _say_histogram(found)
        # Those whose words may be shown come first, for the others tell less.
        by_change = sorted(found.queries, key=lambda one: (one.user_query is None, -abs(one.difference)))
        gained = [one for one in by_change if one.difference > 0][:show]
        lost = [one for one in by_change if one.difference < 0][:show]
        names = {name for one in (*gained, *lost) for name, _ in (*one.first_top, *one.second_top)}
        texts = document_texts(parts.database, sorted(names))
        for heading, ones in (("Most gained", gained), ("Most lost", lost)):
            for one in ones:
                _say_query(heading, one, found, texts, k)


def _say_measures(found: "Contrast") -> None:
    say_table(
        ("measure", f"version {found.first_version}", f"version {found.second_version}", "difference", "interval"),
        [
            (
                name,
                f"{one.first:.3f}",
                f"{one.second:.3f}",
                f"{one.difference:+.3f}",
                f"{one.low:+.3f} to {one.high:+.3f}",
            )
            for name, one in found.measures.items()
        ],
    )


def _say_histogram(found: "Contrast") -> None:
    counts = found.histogram(_EDGES)
    for low, high, count in zip(_EDGES, _EDGES[1:], counts, strict=False):
        bar = "█" * max(round(_BAR * count / max(counts)), count > 0)
        say(f"  NDCG@10 {low:+.2f} to {high:+.2f} {count:6,} {bar}")


def _say_query(heading: str, one: "QueryContrast", found: "Contrast", texts: Mapping[str, str], k: int) -> None:
    query = f'"{one.user_query}"' if one.user_query else f"a query that fewer than {k} people typed"
    say(f"\n{heading}, {one.difference:+.2f}: {query} (* judged relevant)")
    sides: list[Sequence[str]] = [
        [f"{'*' if relevant else ' '} {_title(texts.get(name, name))}" for name, relevant in top]
        for top in (one.first_top, one.second_top)
    ]
    rows = [tuple(side[place] if place < len(side) else "" for side in sides) for place in range(max(map(len, sides)))]
    say_table((f"version {found.first_version}", f"version {found.second_version}"), rows)


def _title(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _TITLE_CHARACTERS else f"{words[: _TITLE_CHARACTERS - 1]}…"
