"""The client of an application: it never waits, loses nothing that fits, and counts what does not."""

import json

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from relevanced.consumers.client import Client
from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.otlp import read_traces
from relevanced.daemon.errors import Retry
from relevanced.daemon.web.collector import create_collector
from relevanced.daemon.web.doors import Doors
from tests.serving import served_app


class AwayAtFirst(MemorySource):
    """A sink that cannot take the first thing that is handed in."""

    is_away = False

    def write(self, records):
        if self.is_away:
            self.is_away = False
            raise Retry("Away.")
        super().write(records)


def found(sink):
    return [json.loads(record.value) for record in sink.poll(1000).records]


def server(sink):
    return served_app(create_collector(Doors(intake=sink, decode=decode, read_traces=read_traces)))


def test_a_search_and_a_click_arrive_when_the_client_is_closed():
    sink = MemorySource()
    with server(sink) as http:
        with Client(str(http.base_url), application="shop") as events:
            query_id = events.search("stiff neck", ["d2", "d1"], session_id="s1")
            events.click(query_id, "d1", position=2, session_id="s1")
        query, click = found(sink)
    assert (query["query_id"], query["query_response_hit_ids"], query["application"]) == (
        query_id,
        ["d2", "d1"],
        "shop",
    )
    assert (click["query_id"], click["event_attributes"]["position"]["ordinal"]) == (query_id, 2)
    assert (events.dropped, events.refused) == (0, 0)


def test_what_the_server_cannot_use_is_counted_and_keeps_nothing_else_back():
    sink = MemorySource()
    with server(sink) as http:
        with Client(str(http.base_url)) as events:
            events.report("click", "q1")  # names no document
            events.click("q1", "d1")
        assert [record["event_attributes"]["object"]["object_id"] for record in found(sink)] == ["d1"]
    assert events.refused == 1


def test_what_the_server_cannot_take_now_is_sent_again_before_the_client_ends():
    sink = AwayAtFirst()
    sink.is_away = True
    with server(sink) as http:
        events = Client(str(http.base_url))
        events.click("q1", "d1")
        events.close(30)
    assert len(found(sink)) == 1
    assert events.dropped == 0


def test_without_a_server_the_queue_is_bounded_and_the_application_goes_on():
    events = Client("http://127.0.0.1:9", limit=3)
    for number in range(5):
        events.click(f"q{number}", "d1")
    assert events.dropped == 2
    events.close(0.1)
    assert events.dropped == 5


def test_a_redirect_is_a_refusal_and_not_followed():
    app, asked = FastAPI(), []

    @app.post("/v1/events")
    def door():
        return RedirectResponse("/login", 302)

    @app.get("/login")
    def login():
        asked.append("login")

    with served_app(app) as http:
        with Client(str(http.base_url)) as events:
            events.click("q1", "d1")
        assert asked == []
    assert (events.refused, events.dropped) == (1, 0)
