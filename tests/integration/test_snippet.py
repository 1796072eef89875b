"""The script for pages, in a real browser: a click that leaves the page is reported, from allowed origins only."""

import json

import pytest

from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.otlp import read_traces
from relevanced.daemon.web.collector import create_collector
from relevanced.daemon.web.doors import Doors
from tests.browser import BROWSER, see, site
from tests.serving import served_app

RESULTS = """
<script src="%s/v1/relevanced.js" data-application="shop" data-session-id="s1"></script>
<ol data-query-id="q1">
<li data-document-id="d1"><a href="/next">one</a></li>
<li data-document-id="d2"><a id="go" href="/next">two</a></li>
</ol>
<script>document.getElementById("go").click()</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="this machine has no Chromium")
@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_click_that_leaves_the_page_is_reported_from_allowed_origins_only(is_allowed):
    sink, pages = MemorySource(), {"/next": "<p>next</p>"}
    with site(pages) as origin:
        allowed = [origin] if is_allowed else ["https://other.example"]
        doors = Doors(intake=sink, decode=decode, read_traces=read_traces, allowed_origins=allowed)
        with served_app(create_collector(doors)) as http:
            pages["/"] = RESULTS % http.base_url
            seen = see(f"{origin}/")
    assert "next" in seen
    records = [json.loads(record.value) for record in sink.poll(10).records]
    if not is_allowed:
        assert records == []
        return
    (click,) = records
    assert click["event_attributes"] == {"object": {"object_id": "d2"}, "position": {"ordinal": 2}}
    assert (click["query_id"], click["application"], click["session_id"]) == ("q1", "shop", "s1")
