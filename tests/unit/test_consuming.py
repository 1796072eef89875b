"""Consumers at work: sources that cannot be opened yet, and what stops them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from relevanced.consumers.memory import MemorySource
from relevanced.daemon import consuming
from relevanced.daemon.consuming import consume_until_stopped
from relevanced.daemon.errors import BadInput, Retry
from tests.unit.test_loop import MemoryLog


def test_a_source_that_cannot_be_opened_yet_is_waited_for(monkeypatch):
    monkeypatch.setattr(consuming, "LONGEST_PAUSE_SECONDS", 0.01)
    source, log, stop, attempts = MemorySource(), MemoryLog(), threading.Event(), []
    source.write([{"query_id": "q1", "user_query": "itch"}])

    def open_source():
        attempts.append(None)
        if len(attempts) < 3:
            raise Retry("No broker answers.")
        return source

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(consume_until_stopped, open_source, log, stop)
        while not log.queries:
            assert not running.done()
        stop.set()
        running.result(timeout=30)
    assert len(attempts) == 3


def test_settings_that_cannot_be_used_are_not_waited_for():
    def open_source():
        raise BadInput("No such setting.")

    with pytest.raises(BadInput):
        consume_until_stopped(open_source, MemoryLog(), threading.Event())
