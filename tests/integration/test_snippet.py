"""The script for pages, in a real browser: a click that leaves the page is reported, from allowed origins only."""

import json
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.otlp import read_traces
from relevanced.daemon.web.collector import create_collector
from relevanced.daemon.web.doors import Doors
from tests.serving import served_app

BROWSER = next(filter(None, map(shutil.which, ["chromium-headless-shell", "chromium", "google-chrome"])), None)
RESULTS = """
<script src="%s/v1/relevanced.js" data-application="shop" data-session-id="s1"></script>
<ol data-query-id="q1">
<li data-document-id="d1"><a href="/next">one</a></li>
<li data-document-id="d2"><a id="go" href="/next">two</a></li>
</ol>
<script>document.getElementById("go").click()</script>
"""


@contextmanager
def site(pages):
    """Another origin, with the pages that are in the dictionary by then."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(BROWSER is None, reason="this machine has no Chromium")
@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_click_that_leaves_the_page_is_reported_from_allowed_origins_only(is_allowed):
    sink, pages = MemorySource(), {"/next": "<p>next</p>"}
    with site(pages) as origin:
        allowed = [origin] if is_allowed else ["https://other.example"]
        doors = Doors(intake=sink, decode=decode, read_traces=read_traces, allowed_origins=allowed)
        with served_app(create_collector(doors)) as http:
            pages["/"] = RESULTS % http.base_url
            command = [
                BROWSER,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=3000",
                "--dump-dom",
            ]
            seen = subprocess.run([*command, f"{origin}/"], check=True, capture_output=True, text=True, timeout=120)
    assert "next" in seen.stdout
    records = [json.loads(record.value) for record in sink.poll(10).records]
    if not is_allowed:
        assert records == []
        return
    (click,) = records
    assert click["event_attributes"] == {"object": {"object_id": "d2"}, "position": {"ordinal": 2}}
    assert (click["query_id"], click["application"], click["session_id"]) == ("q1", "shop", "s1")
