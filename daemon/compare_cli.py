"""
The command `compare`: how two versions, or models that are none, differ on queries that somebody has judged.

In:  options. Out: a table, a histogram of the queries, those that differ most side by side; or JSON, a page, a plot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import require_folder, write_asked
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.svg import require_svg
from relevanced.daemon.wiring import Parts

if TYPE_CHECKING:
    from relevanced.daemon.contrast import Contrast, JudgedQueries, QueryContrast

_EDGES = (-1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0)
_BAR = 40  # characters of the longest
_TITLE_CHARACTERS = 32
_LEADING = 3  # documents of a query that are listed whether or not they are relevant

Side = Annotated[
    str,
    typer.Argument(
        help="Number of a version, as `relevanced versions` lists it, or a directory with a model.", show_default=False
    ),
]


def compare(
    context: typer.Context,
    first: Side,
    second: Side,
    cycle: Annotated[
        int | None, typer.Option(help="Whose held-out queries are asked; else the newest's.", min=1)
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Ask labelled queries instead: queries.jsonl and qrels/test.tsv, as in BEIR."),
    ] = None,
    show: Annotated[int, typer.Option(help="Queries to show that got better, and as many that got worse.", min=0)] = 5,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page for colleagues to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the differences by query to this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Compare two versions, or models in directories, on queries that neither was trained on.

    A model in a directory becomes no version: its documents are encoded for the comparison alone.

    Examples:

      relevanced compare 1 2                        the second against the first

      relevanced compare 4 ./e5-small --html e5.html    another model, as a page

      relevanced compare 1 2 --qrels ./labels       on labels of your own
    """
    from relevanced.daemon.arms import arms_of, runs_of, taught_remarks
    from relevanced.daemon.contrast import contrast

    if cycle is not None and qrels is not None:
        raise BadInput("--cycle and --qrels both say which queries are asked; give one of the two.")
    if plot is not None:
        require_svg(plot)
    for file in filter(None, (html, plot)):
        require_folder(file)
    with opened(context) as parts, progress_bars() as progress:
        judged = _judged(parts, cycle, qrels)
        arms = arms_of(parts.stages, first, second, parts.settings.model)
        runs = runs_of(parts.stages, arms, judged, progress)
        remarks = taught_remarks(parts.stages, arms, judged)
        found = contrast((arms[0].name, arms[1].name), judged, runs, parts.settings.gate, remarks)
        if plot is not None:
            from relevanced.daemon.contrast_plot import draw

            write_asked(plot, draw(found))
        if html is not None:
            _write_page(parts, found, html, show)
        if as_json:
            sentences = [found.verdict(), found.tally(), found.unjudged(), *found.remarks]
            say_json({"sentences": sentences, **asdict(found), "better_worse_alike": found.counts()})
            return
        _say(parts, found, show)
        for file in filter(None, (html, plot)):
            say(f"\nWrote {file}.")


def _judged(parts: Parts, cycle: int | None, qrels: Path | None) -> "JudgedQueries":
    """The queries that are asked, from where the options say."""
    from relevanced.daemon.documents import document_ids
    from relevanced.daemon.judged_queries import held_out_queries, labelled_queries

    if qrels is not None:
        return labelled_queries(qrels, set(document_ids(parts.database)))
    settings = parts.settings
    return held_out_queries(
        parts.stages.directory, cycle, k=settings.privacy.k, max_weight=settings.gate.max_query_weight
    )


def _write_page(parts: Parts, found: "Contrast", file: Path, show: int) -> None:
    from relevanced.daemon.contrast_page import page

    titles = _titles(parts, *found.most(show))
    write_asked(file, page(found, titles, show=show, k=parts.settings.privacy.k, made_at=parts.clock.now()))


def _titles(parts: Parts, *groups: Sequence["QueryContrast"]) -> Mapping[str, str]:
    """What the documents of these queries are called."""
    from relevanced.daemon.documents import document_titles

    names = {name for ones in groups for one in ones for name, _ in (*one.first_top, *one.second_top)}
    return document_titles(parts.database, sorted(names))


def _say(parts: Parts, found: "Contrast", show: int) -> None:
    say(f"{found.verdict()}\n")
    _say_measures(found)
    say(f"\n{found.unjudged()}")
    for remark in found.remarks:
        say(remark)
    say(f"\n{found.tally()}")
    _say_histogram(found)
    gained, lost = found.most(show)
    titles = _titles(parts, gained, lost)
    for heading, ones in (("Most gained", gained), ("Most lost", lost)):
        for one in ones:
            _say_query(heading, one, found, titles, parts.settings.privacy.k)


def _say_measures(found: "Contrast") -> None:
    rows = [
        (name, f"{one.first:.3f}", f"{one.second:.3f}", f"{one.difference:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
        for name, one in found.measures.items()
    ]
    first, second = found.judged_at_10
    rows.append(("judged@10", f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}", ""))
    say_table(("measure", found.first, found.second, "difference", f"{found.percent()} interval"), rows)


def _say_histogram(found: "Contrast") -> None:
    counts = found.histogram(_EDGES)
    for low, high, count in zip(_EDGES, _EDGES[1:], counts, strict=False):
        bar = "█" * max(round(_BAR * count / max(counts)), count > 0)
        say(f"  NDCG@10 {low:+.2f} to {high:+.2f} {count:6,} {bar}")


def _say_query(heading: str, one: "QueryContrast", found: "Contrast", titles: Mapping[str, str], k: int) -> None:
    from relevanced.daemon.documents import shortened

    query = f'"{one.user_query}"' if one.user_query else f"a query that fewer than {k} people typed"
    say(f"\n{heading}, {one.difference:+.2f}: {query} (* judged relevant)")
    sides: list[Sequence[str]] = [
        [
            f"{rank:2} {'*' if relevant else ' '} {shortened(titles.get(name, name), _TITLE_CHARACTERS)}"
            for rank, (name, relevant) in enumerate(top, start=1)
            if rank <= _LEADING or relevant
        ]
        for top in (one.first_top, one.second_top)
    ]
    rows = [tuple(side[place] if place < len(side) else "" for side in sides) for place in range(max(map(len, sides)))]
    say_table((found.first, found.second), rows)
