"""The intake: on disk before anybody is told, together with all who wait, and no further than the disk allows."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from relevanced.consumers.spool import SpoolSource, SpoolWriter
from relevanced.daemon.errors import Retry
from relevanced.daemon.intake import Intake, IntakePolicy


class Slow:
    """A sink that writes when it is told to."""

    def __init__(self):
        self.writes, self.begun, self.go_on = [], threading.Semaphore(0), threading.Semaphore(0)

    def write(self, records):
        self.begun.release()
        assert self.go_on.acquire(timeout=30)
        self.writes.append(list(records))
        if {"bad": 1} in records:
            raise Retry("The disk is away.")

    def close(self):
        pass


def test_what_comes_while_the_disk_is_busy_shares_the_next_write(tmp_path):
    sink = Slow()
    intake = Intake(sink, tmp_path, IntakePolicy(min_free_mb=0))
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(intake.write, [{"n": 0}])
        assert sink.begun.acquire(timeout=30)
        others = [pool.submit(intake.write, [{"n": number}]) for number in range(1, 5)]
        while len(intake._waiting) < 4:
            pass
        assert not any(other.done() for other in others)
        sink.go_on.release(2)
        for waiting in (first, *others):
            waiting.result(timeout=30)
    assert sink.writes[0] == [{"n": 0}]
    assert sorted(record["n"] for record in sink.writes[1]) == [1, 2, 3, 4]
    assert len(sink.writes) == 2


def test_everybody_in_a_write_that_fails_is_told(tmp_path):
    sink = Slow()
    intake = Intake(sink, tmp_path, IntakePolicy(min_free_mb=0))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(intake.write, [{"n": 0}])
        assert sink.begun.acquire(timeout=30)
        others = [pool.submit(intake.write, [record]) for record in ({"bad": 1}, {"n": 2})]
        while len(intake._waiting) < 2:
            pass
        sink.go_on.release(2)
        first.result(timeout=30)
        for other in others:
            with pytest.raises(Retry, match="away"):
                other.result(timeout=30)


def test_a_disk_that_is_nearly_full_takes_nothing(tmp_path):
    intake = Intake(SpoolWriter(tmp_path), tmp_path, IntakePolicy(min_free_mb=10**9))
    with pytest.raises(Retry, match="MB left"):
        intake.write([{"query_id": "q", "user_query": "x"}])
    assert not SpoolSource(tmp_path).poll(10).records
