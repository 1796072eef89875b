"""
What differs query by query, as a picture: an SVG with one bar for each query, the most gained first.

In:  a Contrast. Out: the picture alone, or as a part of contrast_page. It is light or dark as the reader's screen is.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from relevanced.daemon import svg
from relevanced.daemon.contrast import Contrast, QueryContrast, capitalised

WIDTH: Final = 960  # pixels
HEIGHT: Final = 320
# The first two are Okabe's and Ito's, which the colour-blind tell apart; the second darker, to be read as letters too.
GAIN, LOSS, INK, GRID, PAPER = "#0072b2", "#b84d00", "#333333", "#d8d8d8", "#ffffff"
_STYLE: Final = """<style>
.hit { fill: transparent } .hit:hover { fill: #80808040 }
@media (prefers-color-scheme: dark) {
  .gain { fill: #56b4e9 } .loss { fill: #ff9b54 } .ink { fill: #e4e6e8 } .axis { stroke: #e4e6e8 }
  .grid { stroke: #3c4147 } .paper { fill: #14171a }
}
</style>"""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 34, 30  # margins
_SPANS: Final = (0.1, 0.2, 0.5, 1.0)  # of the axis, up and down
_LETTER: Final = 8.0  # pixels that one takes at most, nearly
_GAP_FROM: Final = 4.0  # width of a bar from which a gap parts it from the next


def draw(found: Contrast, *, width: int = WIDTH, part: str = "plot", hover: bool = True) -> str:
    """
    Draw the differences.

    Args:
        width: in pixels; letters keep their size, so a narrow picture is drawn anew rather than scaled.
        part: begins the ids of title and description, for a page that holds more than one picture.
        hover: lets each bar say its query, where its words may be shown.
    """
    queries = found.queries
    most = max(abs(one.difference) for one in queries)
    span = next((span for span in _SPANS if most <= span), 1.0)
    step = (width - _LEFT - _RIGHT) / len(queries)
    middle, half = _TOP + (HEIGHT - _TOP - _BOTTOM) / 2, (HEIGHT - _TOP - _BOTTOM) / 2

    def height(difference: float) -> float:
        return middle - half * difference / span

    better, worse, alike = found.counts()
    bars = [(_LEFT + place * step, height(one.difference)) for place, one in enumerate(queries)]
    right = width - _RIGHT
    heading = f"NDCG@10 by query, {found.second} minus {found.first}"
    short = heading if len(heading) * _LETTER <= width - _LEFT - _RIGHT else "NDCG@10 by query"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}"'
        f' role="img" aria-labelledby="{part}-title {part}-desc" font-family="system-ui, sans-serif" font-size="13">',
        f'<title id="{part}-title">{svg.words(heading)}</title>',
        f'<desc id="{part}-desc">{svg.words(f"{found.tally()} {_extremes(found)}")}</desc>',
        _STYLE,
        f'<rect class="paper" width="{width}" height="{HEIGHT}" fill="{PAPER}"/>',
        svg.text(_LEFT, 18, short, "start", INK, "ink"),
    ]
    for tick in (-1.0, -0.5, 0.0, 0.5, 1.0):
        y, kind = height(tick * span), "grid" if tick else "axis"
        parts.append(svg.line([(_LEFT, y), (right, y)], GRID if tick else INK, kind=kind))
        parts.append(svg.text(_LEFT - 8, y + 4, f"{tick * span:+.2f}" if tick else "0", "end", INK, "ink"))
    parts.append(f'<path class="gain" fill="{GAIN}" d="{_bars(bars[:better], middle, step)}"/>')
    parts.append(f'<path class="loss" fill="{LOSS}" d="{_bars(bars[better + alike :], middle, step)}"/>')
    base = HEIGHT - 10
    parts.append(svg.text(_LEFT, base, f"{better:,} better", "start", GAIN, "gain"))
    parts.append(svg.text((_LEFT + right) / 2, base, f"{alike:,} alike", "middle", INK, "ink"))
    parts.append(svg.text(right, base, f"{worse:,} worse", "end", LOSS, "loss"))
    if hover:
        parts += _hover(queries, better, worse, step)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(bars: Sequence[tuple[float, float]], middle: float, step: float) -> str:
    """One path for all bars from the middle line: edges that meet leave no seam, however many there are."""
    wide = step * 0.85 if step >= _GAP_FROM else step
    return " ".join(f"M{x:.2f} {middle:.1f}V{y:.1f}H{x + wide:.2f}V{middle:.1f}Z" for x, y in bars)


def _hover(queries: Sequence[QueryContrast], better: int, worse: int, step: float) -> Iterator[str]:
    for place, one in enumerate(queries):
        if one.user_query is not None and not better <= place < len(queries) - worse:
            title = svg.words(f"{one.user_query}: {one.first:.2f} to {one.second:.2f} ({one.difference:+.2f})")
            area = f'x="{_LEFT + place * step:.2f}" y="{_TOP}" width="{step:.2f}" height="{HEIGHT - _TOP - _BOTTOM}"'
            yield f'<rect class="hit" fill="none" pointer-events="all" {area}><title>{title}</title></rect>'


def _extremes(found: Contrast) -> str:
    best, worst = found.queries[0].difference, found.queries[-1].difference
    return f"{capitalised(found.second)} differs by {worst:+.2f} to {best:+.2f}."
