"""
The parts of a picture as SVG, written by hand so that it needs nothing: texts, lines and dots.

In:  places in pixels. Out: elements; contrast_plot and the rehearsal's plot join them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from relevanced.daemon.errors import BadInput

_NOT_IN_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def require_svg(path: Path) -> None:
    """
    See that a picture can be written under this name.

    Raises: BadInput when it is no SVG.
    """
    if path.suffix != ".svg":
        raise BadInput(f"{path} cannot be drawn: a plot is an SVG; name it {path.with_suffix('.svg').name}.")


def words(text: str) -> str:
    """Text as XML takes it; a control character, which no escape lets in, becomes a replacement character."""
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def text(x: float, y: float, content: str, anchor: str, colour: str, kind: str = "") -> str:
    """
    Words at a place.

    Args:
        anchor: which part of them is at x: start, middle or end.
        kind: a class, by which a style may colour them otherwise.
    """
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words(content)}</text>'


def line(points: Sequence[tuple[float, float]], colour: str, dashes: str = "", kind: str = "") -> str:
    """A line through points; `dashes` as stroke-dasharray, `kind` as in text."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    named = f' class="{kind}"' if kind else ""
    return f'<polyline{named} points="{path}" fill="none" stroke="{colour}" stroke-dasharray="{dashes or "none"}"/>'


def dot(x: float, y: float, radius: float, colour: str) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"/>'
