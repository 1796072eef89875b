"""
The report of a rehearsal as a picture: an SVG, drawn by hand so that it needs nothing.

In:  a Report. Out: left NDCG@10 by cycle, between zero-shot and the oracle; right what came of the grades.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relevanced.daemon import svg
from relevanced.daemon.files import write_asked
from relevanced.daemon.rehearsal.report import Report
from relevanced.daemon.rehearsal.truth import Bin

SIDE: Final = 300  # of each square, in pixels
LEFT, RIGHT, TOP, WIDTH, HEIGHT = 60, 470, 50, 810, 400
TEXT, GRID, CANDIDATE, LIVE, ORACLE = (
    "#333333",
    "#dddddd",
    "#d55e00",
    "#009e73",
    "#0072b2",
)  # the last three: Okabe, Ito

Point = tuple[float, float]  # both in [0, 1], from the lower left corner of a square


def write_plot(path: Path, report: Report) -> None:
    """
    Write the picture, whole or not at all.

    Raises: BadInput when the file cannot be written.
    """
    write_asked(path, draw(report))


def draw(report: Report) -> str:
    """Draw both squares; the calibration is the last cycle's that judged anything."""
    graded = [cycle.calibration for cycle in report.cycles if cycle.calibration]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' font-family="sans-serif" font-size="12" fill="{TEXT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 24, f"Rehearsal on {report.name}: NDCG@10 by cycle", "start"),
        _text(RIGHT, 24, "Grades: share truly relevant by P(relevant)", "start"),
        *_cycles(report),
        *_calibration(graded[-1] if graded else []),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cycles(report: Report) -> list[str]:
    measures = [report.zero_shot, report.oracle, *(m for one in report.cycles for m in (one.measure, one.live))]
    low = min(measure.low for measure in measures if measure)
    span = max(measure.high for measure in measures if measure) - low or 1.0
    count = len(report.cycles)

    def at(place: int, value: float) -> Point:
        return (place + 0.5) / count, (value - low) / span

    parts = _axes(LEFT, [f"{low + span * tick / 4:.2f}" for tick in range(5)], [str(one + 1) for one in range(count)])
    lines = [
        ("zero-shot", TEXT, [at(place, one.zero_shot.ndcg) for place, one in enumerate(report.cycles)], "4 4"),
        ("live", LIVE, [at(place, one.live.ndcg) for place, one in enumerate(report.cycles)], ""),
        (
            "oracle",
            ORACLE,
            [at(place, one.oracle.ndcg) for place, one in enumerate(report.cycles) if one.oracle],
            "4 4",
        ),
    ]
    for _, colour, points, dashes in lines:
        wide = [(0.0, points[0][1]), *points, (1.0, points[-1][1])] if points else []
        parts += [_line(LEFT, wide, colour, dashes), *(_dot(LEFT, point, colour, 2) for point in points)]
    parts += _labels([(name, points[-1][1], colour) for name, colour, points, _ in lines if points])
    for place, one in enumerate(report.cycles):
        if one.measure:
            ends = [at(place, one.measure.low), at(place, one.measure.high)]
            parts += [_line(LEFT, ends, CANDIDATE, ""), _dot(LEFT, at(place, one.measure.ndcg), CANDIDATE, 4)]
    return [*parts, _text(LEFT + SIDE / 2, TOP + SIDE + 36, "cycle (dot and bar: its candidate, 95 %)", "middle")]


def _calibration(bins: Sequence[Bin]) -> list[str]:
    known = [(one.grade, one.relevant, one.pairs) for one in bins if one.grade is not None and one.relevant is not None]
    most = max((pairs for _, _, pairs in known), default=1)
    ticks = [f"{tick / 4:g}" for tick in range(5)]
    return [
        *_axes(RIGHT, ticks, [f"{tick / 5:.1f}–{(tick + 1) / 5:.1f}" for tick in range(5)]),
        _line(RIGHT, [(0, 0), (1, 1)], TEXT, "4 4"),
        _line(RIGHT, [(grade, relevant) for grade, relevant, _ in known], CANDIDATE, ""),
        *(_dot(RIGHT, (grade, relevant), CANDIDATE, 2 + 6 * (pairs / most) ** 0.5) for grade, relevant, pairs in known),
        _text(RIGHT + SIDE / 2, TOP + SIDE + 36, "grade (area of a dot: its pairs)", "middle"),
    ]


def _axes(left: int, rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    """A frame with evenly spaced lines, and the columns' names below their middles."""
    parts = []
    for place, name in enumerate(rows):
        height = place / (len(rows) - 1)
        parts += [_line(left, [(0, height), (1, height)], GRID, "")]
        parts += [_text(left - 6, TOP + SIDE * (1 - height) + 4, name, "end")]
    for place, name in enumerate(columns):
        parts += [_text(left + SIDE * (place + 0.5) / len(columns), TOP + SIDE + 18, name, "middle")]
    return parts


def _line(left: int, points: Sequence[Point], colour: str, dashes: str) -> str:
    return svg.line([_at(left, point) for point in points], colour, dashes)


def _dot(left: int, point: Point, colour: str, radius: float) -> str:
    return svg.dot(*_at(left, point), radius, colour)


def _at(left: int, point: Point) -> Point:
    """The place of a point of a square in the picture, in pixels."""
    return left + SIDE * point[0], TOP + SIDE * (1 - point[1])


def _labels(named: Sequence[tuple[str, float, str]]) -> list[str]:
    """Name lines at their right ends, beside the square; names that would overlap move up."""
    parts, lowest = [], 0.0
    for name, height, colour in sorted(named, key=lambda one: one[1]):
        lowest = max(height, lowest)
        parts.append(_text(LEFT + SIDE + 4, TOP + SIDE * (1 - lowest) + 4, name, "start", colour))
        lowest += 12 / SIDE
    return parts


def _text(x: float, y: float, text: str, anchor: str, colour: str = TEXT) -> str:
    return svg.text(x, y, text, anchor, colour)
