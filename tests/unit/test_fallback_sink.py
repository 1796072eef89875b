"""Our own records while the broker is away: on disk, without a wait, and with the broker again once it is back."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from relevanced.consumers import fallback_sink
from relevanced.consumers.fallback_sink import FallbackSink
from relevanced.consumers.memory import MemorySource
from relevanced.daemon.errors import Retry


class Sink(MemorySource):
    """Counts what it is asked, and can be away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away, self.asked, self.is_closed = False, 0, False
        super().__init__()
        self.is_away, self.asked = is_away, 0

    def write(self, records):
        self.asked += 1
        if self.is_away:
            raise Retry("Away.")
        super().write(records)

    def close(self):
        self.is_closed = True


def taken(sink):
    return [record.value for record in sink.poll(1000).records]


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(fallback_sink, "monotonic", lambda: now[0])
    return now


def test_a_broker_that_answers_gets_all(clock):
    broker, spool = Sink(), Sink()
    sink = FallbackSink(lambda: broker, spool)
    sink.write([{"n": 1}])
    sink.close()
    assert (taken(broker), spool.asked) == ([b'{"n":1}'], 0)
    assert broker.is_closed
    assert spool.is_closed


def test_while_the_broker_is_away_the_spool_gets_all_and_the_broker_is_left_alone(clock):
    broker, spool = Sink(is_away=True), Sink()
    sink = FallbackSink(lambda: broker, spool)
    for number in range(3):
        sink.write([{"n": number}])
    assert (len(taken(spool)), broker.asked) == (3, 1)
    broker.is_away = False
    clock[0] += fallback_sink.AWAY_SECONDS
    sink.write([{"n": 3}])
    sink.write([{"n": 4}])
    assert (len(taken(broker)), len(taken(spool))) == (2, 0)


def test_a_broker_that_is_away_at_the_start_is_opened_later(clock):
    broker, spool, attempts = Sink(), Sink(), []

    def open_broker():
        attempts.append(clock[0])
        if len(attempts) == 1:
            raise Retry("No broker answers.")
        return broker

    sink = FallbackSink(open_broker, spool)
    sink.write([{"n": 0}])
    clock[0] += fallback_sink.AWAY_SECONDS - 1
    sink.write([{"n": 1}])
    clock[0] += 1
    sink.write([{"n": 2}])
    assert (len(taken(spool)), len(taken(broker)), len(attempts)) == (2, 1, 2)


def test_what_neither_takes_is_the_callers_to_know(clock):
    sink = FallbackSink(lambda: Sink(is_away=True), Sink(is_away=True))
    with pytest.raises(Retry):
        sink.write([{"n": 0}])


def test_after_a_failure_one_caller_tries_the_broker_and_no_other_waits_for_it(clock):
    begun, go_on = Event(), Event()

    class Slow(Sink):
        def write(self, records):
            if self.asked:
                begun.set()
                assert go_on.wait(30)
            super().write(records)

    broker, spool = Slow(is_away=True), Sink()
    sink = FallbackSink(lambda: broker, spool)
    sink.write([{"n": 0}])
    clock[0] += fallback_sink.AWAY_SECONDS
    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(sink.write, [{"n": 1}])
        assert begun.wait(30)
        sink.write([{"n": 2}])
        assert len(taken(spool)) == 2
        go_on.set()
        trying.result()
