"""The page of a comparison in a real browser: it fits a phone, runs nothing and asks nobody, whatever it shows."""

import json
import re
from datetime import UTC, datetime
from html import unescape

import pytest

from relevanced.daemon.contrast import Contrast, JudgedQueries, contrast
from relevanced.daemon.contrast_page import LEADING, page
from relevanced.daemon.gate import GatePolicy
from tests.browser import BROWSER, complaints, see, site

HOSTILE = """<script>document.title = "run"</script><img src=x onerror="document.title='run'"> {{ 7 * 7 }} '"&\u202e"""
LONG = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4
NAMES = (f"model {LONG}", f"model {HOSTILE}")

# Tells, of the page in a frame as wide as a phone or a desk, how far it can be scrolled, and what stands in it.
HARNESS = """
<iframe src="/page.html" style="width:%dpx;height:800px;border:0"></iframe>
<pre id="found"></pre>
<script>
const frame = document.querySelector("iframe")
frame.onload = () => {
  const page = frame.contentDocument, shown = element => getComputedStyle(element).display !== "none"
  document.getElementById("found").textContent = JSON.stringify({
    room: frame.clientWidth,
    wide: page.documentElement.scrollWidth,
    title: page.title,
    scripts: page.querySelectorAll("script, img, [onerror]").length,
    plots: [...page.querySelectorAll("figure")].filter(shown).length,
    queries: [...page.querySelectorAll("article h3")].map(one => one.textContent),
    relevant: [...page.querySelectorAll("article li.relevant")].map(one => one.value),
    headings: [...page.querySelectorAll("th")].every(one => one.scope),
    ids: new Set([...page.querySelectorAll("[id]")].map(one => one.id)).size - page.querySelectorAll("[id]").length,
    bars: page.querySelectorAll("figure.wide .hit title").length,
  })
}
</script>
"""


@pytest.fixture(scope="module")
def found() -> Contrast:
    """Two queries gain and one, with the relevant document at last at rank 8, loses; a fourth few people typed."""
    texts = {"a": HOSTILE, "b": LONG, "c": "a cold", "d": "what ann o'nym has"}
    judged = JudgedQueries(
        source="labelled queries of town",
        texts=texts,
        qrels={query: {"good": 1.0} for query in texts},
        judged={query: {"good", "d0"} for query in texts},
        weights=dict.fromkeys(texts, 1.0),
        shown={"a", "b", "c"},
        documents={"good"},
    )
    others = {f"d{place}": 0.9 - place / 100 for place in range(12)}
    first, eighth = {"good": 1.0, **others}, {"good": 0.835, **others}
    old = {"a": eighth, "b": eighth, "c": first, "d": eighth}
    new = {"a": first, "b": first, "c": eighth, "d": first}
    return contrast(NAMES, judged, (old, new), GatePolicy(), [f"A remark on {HOSTILE}."])


@pytest.fixture(scope="module")
def html(found: Contrast) -> str:
    titles = {"good": HOSTILE, "d0": LONG, "d1": ""}
    return page(found, titles, show=5, k=3, made_at=datetime(2026, 5, 4, tzinfo=UTC))


def test_the_page_holds_all_it_needs_and_no_words_of_few_people(html: str) -> None:
    assert not re.search(r"(src|href)=[\"'](?!data:)|@import|url\(", html)
    assert "ann o" not in html
    assert "<script" not in html
    assert "on 2026-05-04. The words of queries that fewer than 3 people typed are left out." in html


def test_where_nothing_was_lost_the_page_says_so(found: Contrast) -> None:
    html = page(found, {}, show=0, k=3, made_at=datetime(2026, 5, 4, tzinfo=UTC))
    assert "No query gained, or too few people typed those that did." in html
    assert "No query lost, or too few people typed those that did." in html


@pytest.mark.skipif(BROWSER is None, reason="this machine has no Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_reader_and_shows_hostile_words_as_they_are(html: str, width: int) -> None:
    with site({"/page.html": html, "/": HARNESS % width}) as origin:
        (told,) = re.findall(r'<pre id="found">(.*?)</pre>', see(f"{origin}/"), re.DOTALL)
        seen = json.loads(unescape(told))
        assert complaints(f"{origin}/page.html") == []
    assert seen["wide"] <= seen["room"] == width
    assert seen["title"] == f"Model {HOSTILE} against model {LONG}"
    assert seen["scripts"] == 0
    assert seen["plots"] == 1
    assert seen["queries"] == [HOSTILE, LONG, "a cold"]
    assert seen["relevant"] == [8, 1, 8, 1, 1, 8]
    assert LEADING < 8
    assert seen["headings"]
    assert seen["ids"] == 0
    assert seen["bars"] == 3
