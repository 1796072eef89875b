"""
The report of a rehearsal as a page for the terminal.

In:  a Report.
Out: a table of the figures, a sentence about what was gained, examples side by side, what was switched and how long all
     took. It fits 80 columns and says nothing by colour alone.
"""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relevanced.daemon.rehearsal.report import CycleReport, Example, Measure, Report, share_of_gain

MAX_WIDTH: Final = 100  # columns; a wider page is harder to read
FIGURES_WIDTH: Final = 74  # columns of the table without its bars


def render(report: Report, console: Console) -> None:
    """Print the report."""
    width = min(console.width, MAX_WIDTH)
    headline = (
        f": {report.documents:,} documents, {report.train_queries:,} queries typed;"
        f" measured on {report.test_queries:,} test queries that nobody typed."
    )
    console.print()
    console.print(Text.assemble((f"Rehearsal on {report.name}", "bold"), headline), width=width)
    console.print()
    console.print(_figures(report, bar_width=max(1, width - FIGURES_WIDTH)))
    if any(cycle.pair_precision is not None for cycle in report.cycles):
        note = "* right: mined pairs that the train qrels confirm; found: pairs of the train qrels that were mined"
        note += "; gain: share of the oracle's" if report.oracle else ""
        console.print(Text(note, "dim"), width=width)
    console.print()
    console.print(Text(_gain(report), "bold"), width=width)
    if report.examples:
        console.print()
        heading = f"What version {report.live_version} ranks among the first three and version 1 did not"
        console.print(Text.assemble((heading, "bold"), " (✓ relevant)"), width=width)
    for example in report.examples:
        console.print()
        console.print(_example(example, report.live_version, width))
    console.print()
    for sentence in report.switches:
        console.print(_bullet(sentence), width=width)
    if report.rollback:
        seconds = f"{report.rollback.seconds:.3f} s"
        sentence = f"The rollback took {seconds} until version {report.rollback.version} answered."
        console.print(_bullet(sentence), width=width)
    if any(cycle.documents < report.documents for cycle in report.cycles):
        counts = ", ".join(f"{cycle.test_queries:,}" for cycle in report.cycles)
        sentence = (
            "Documents arrived on the way: each cycle, its gain too, is measured on the test queries whose relevant"
        )
        console.print(
            _bullet(f"{sentence} documents were all there ({counts}); zero-shot and oracle on all."), width=width
        )
    if report.exploration:
        shown, alone = report.exploration
        sentence = f"Exploring cost {alone - shown:.3f}: people got NDCG@10 {shown:.3f}, by live alone {alone:.3f}."
        console.print(_bullet(sentence), width=width)
    if report.pushed and report.pushed.attacked:
        before, after = report.pushed.rank_before, report.pushed.rank_after
        sentence = f"Pushed documents stand at rank {after:.1f} for queries near them, at first {before:.1f}."
        console.print(_bullet(sentence), width=width)
    minutes, rest = divmod(round(sum(report.seconds.values())), 60)
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in report.seconds.items())
    console.print(_bullet(f"All took {minutes} min {rest} s; in seconds: {steps}."), width=width)


def _figures(report: Report, bar_width: int) -> Table:
    """One row each for the base model, the cycles and the oracle; the bars share one scale."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("verdict")
    for heading in ("triplets", "right*", "found*", "NDCG@10", "interval", "gain*"):
        table.add_column(heading, justify="right")
    table.add_column("")
    measures = [report.zero_shot, *(cycle.measure for cycle in report.cycles), report.oracle]
    low = min(measure.low for measure in measures if measure)
    high = max(measure.high for measure in measures if measure)

    def add_row(name: str, verdict: str, cycle: CycleReport | None, measure: Measure | None, style: str) -> None:
        mined = (f"{cycle.triplets:,}", _share(cycle.pair_precision), _share(cycle.pair_recall)) if cycle else ("",) * 3
        if measure is None:
            table.add_row(name, verdict, *mined, style=style)
        else:
            interval, gain = f"{measure.low:.3f}–{measure.high:.3f}", _share(cycle.recovered if cycle else None)
            bar = _bar(measure, low, high, bar_width)
            table.add_row(name, verdict, *mined, f"{measure.ndcg:.3f}", interval, gain, bar, style=style)

    base_is_live = report.live_version == 1
    add_row("zero-shot", "live" if base_is_live else "", None, report.zero_shot, "bold" if base_is_live else "")
    for cycle in report.cycles:
        is_live = cycle.version == report.live_version
        name = "no version" if cycle.version is None else f"version {cycle.version}"
        add_row(name, "live" if is_live else cycle.verdict, cycle, cycle.measure, "bold green" if is_live else "")
    if report.oracle:
        add_row("oracle", "", None, report.oracle, "cyan")
    return table


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _bar(measure: Measure, low: float, high: float, width: int) -> str:
    """The interval as a line and the mean as a dot, on a scale from low to high."""

    def column(value: float) -> int:
        return round((value - low) / (high - low) * (width - 1)) if high > low else 0

    start, mean, end = column(measure.low), column(measure.ndcg), column(measure.high)
    return "┈" * start + "━" * (mean - start) + "●" + "━" * (end - mean)


def _gain(report: Report) -> str:
    if report.live_version == 1:
        return "No version took the base model's place, so nothing was gained."
    gain = report.live.ndcg - report.zero_shot.ndcg
    change = f"gained {gain:.3f}" if gain >= 0 else f"lost {-gain:.3f}"
    sentence = f"Version {report.live_version} {change} NDCG@10 over zero-shot"
    if report.recovered is None:
        return f"{sentence}."
    sentence += f": {report.recovered:.0%} of what the oracle gains, which was trained on every train judgment"
    most = share_of_gain(report.attainable, report.zero_shot, report.oracle)
    return f"{sentence}." if most is None else f"{sentence}; without those held out it gains {most:.0%}."


def _example(example: Example, live_version: int, width: int) -> Table:
    """The query above the first documents of both versions, side by side."""
    query = Text(f"“{example.user_query}”", style="italic", no_wrap=True, overflow="ellipsis")
    table = Table(box=None, pad_edge=False, title=query, title_justify="left", width=width)
    for heading in ("version 1", f"version {live_version}"):
        table.add_column(f"    {heading}", ratio=1, no_wrap=True, overflow="ellipsis", header_style="dim")
    for place in range(max(len(example.before), len(example.after))):
        table.add_row(*(_place(titles, place) for titles in (example.before, example.after)))
    return table


def _place(titles: Sequence[tuple[str, bool]], place: int) -> Text:
    """One line of a ranking; empty where it has fewer documents."""
    if place >= len(titles):
        return Text()
    title, relevant = titles[place]
    return Text(f"{place + 1} {'✓' if relevant else ' '} {' '.join(title.split())}", "bold green" if relevant else "")


def _bullet(sentence: str) -> Text:
    return Text(f"- {sentence}")
