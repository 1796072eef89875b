"""
A comparison as one page that can be sent around: nothing in it comes from elsewhere, and nothing in it runs.

In:  a Contrast, the titles of its documents, the template contrast_page.html beside this file. Out: HTML.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version as installed_version
from importlib.resources import files
from typing import Any, Final, NamedTuple

from jinja2 import Environment, StrictUndefined

from relevanced.daemon.contrast import Contrast, MeasureContrast, QueryContrast, capitalised
from relevanced.daemon.contrast_plot import draw
from relevanced.daemon.documents import shortened

LEADING: Final = 5  # documents of a query that are listed whether or not they are relevant
_NARROW: Final = 360  # pixels of the plot on a phone
_TITLE_CHARACTERS: Final = 110


class _Document(NamedTuple):
    rank: int
    title: str
    is_relevant: bool


def page(found: Contrast, titles: Mapping[str, str], *, show: int, k: int, made_at: datetime) -> str:
    """
    Write the page.

    Args:
        titles: document_id -> what people call it; the id itself stands for one that is not there.
        show: queries side by side that got better, and as many that got worse; only ones whose words may be shown.
        k: people who must have typed a query, which the page says.
    """
    gained, lost = ([one for one in ones if one.user_query is not None] for ones in found.most(show))
    better, worse, alike = found.counts()
    nothing = "No query {}, or too few people typed those that did."
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        files("relevanced.daemon").joinpath("contrast_page.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=f"{capitalised(found.second)} against {found.first}",
        found=found,
        kind=_kind(found.measures["ndcg@10"]),
        rows=_rows(found.measures),
        better=better,
        worse=worse,
        alike=alike,
        wide=draw(found, part="wide"),
        narrow=draw(found, width=_NARROW, part="narrow", hover=False),
        examples=[
            ("Most gained", "gained", [_shown(one, titles) for one in gained]),
            ("Most lost", "lost", [_shown(one, titles) for one in lost]),
        ],
        nothing={"gained": nothing.format("gained"), "lost": nothing.format("lost")},
        leading=LEADING,
        k=k,
        made_at=f"{made_at:%Y-%m-%d}",
        release=installed_version("relevanced"),
    )


def _kind(measure: MeasureContrast) -> str:
    return "gain" if measure.low > 0 else "loss" if measure.high < 0 else "even"


def _rows(measures: Mapping[str, MeasureContrast]) -> list[dict[str, Any]]:
    """The measures with the places of their intervals, in % of a cell whose middle is 0."""
    span = max(max(abs(one.low), abs(one.high)) for one in measures.values()) or 1.0

    def place(value: float) -> float:
        return round(50 + 50 * value / span, 2)

    return [
        {
            "name": name,
            "measure": one,
            "kind": _kind(one),
            "low": place(one.low),
            "middle": place(one.difference),
            "width": round(place(one.high) - place(one.low), 2),
        }
        for name, one in measures.items()
    ]


def _shown(one: QueryContrast, titles: Mapping[str, str]) -> dict[str, Any]:
    return {
        "user_query": one.user_query,
        "first": one.first,
        "second": one.second,
        "difference": one.difference,
        "first_documents": list(_documents(one.first_top, titles)),
        "second_documents": list(_documents(one.second_top, titles)),
    }


def _documents(top: Sequence[tuple[str, bool]], titles: Mapping[str, str]) -> Iterator[_Document]:
    for rank, (name, is_relevant) in enumerate(top, start=1):
        if rank <= LEADING or is_relevant:
            yield _Document(rank, shortened(titles.get(name, ""), _TITLE_CHARACTERS) or name, is_relevant)
