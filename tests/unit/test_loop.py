"""The loop: what it does when log store or source refuse, and how it ends; the real log store is in integration/."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from relevanced.consumers import loop, storing
from relevanced.consumers.dead_letters import BadShare, IngestPolicy
from relevanced.consumers.loop import gather, run, step
from relevanced.consumers.memory import MemorySource
from relevanced.daemon.errors import Retry, StopDaemon


class MemoryLog:
    """An EventLog that keeps what was committed, and runs `before_commit` at the end of each transaction."""

    def __init__(self, before_commit: Callable[[], None] = lambda: None) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.stored: dict[str, dict[str, int]] = {}
        self.before_commit = before_commit
        self._open: list[tuple[str, dict[str, Any]]] = []
        self._moved: dict[str, dict[str, int]] = {}

    def append(self, table: str, rows: pa.Table) -> None:
        self._open += [(table, row) for row in rows.to_pylist()]

    def advance(self, source: str, next_offsets: Mapping[str, int]) -> None:
        self._moved[source] = dict(next_offsets)

    @contextmanager
    def transaction(self) -> Iterator["MemoryLog"]:
        self._open, self._moved = [], {}
        yield self
        self.before_commit()
        self.rows += self._open
        for source, offsets in self._moved.items():
            self.stored[source] = self.stored.get(source, {}) | offsets

    def offsets(self, source: str) -> dict[str, int]:
        return dict(self.stored.get(source, {}))

    @property
    def queries(self) -> list[str]:
        return [row["query_id"] for table, row in self.rows if table == "query"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_SECONDS", "FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(loop, name, 0.0)


def query(number: int) -> dict[str, str]:
    return {"query_id": f"q{number}", "user_query": "words"}


def failing(errors: list[Exception], then: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Raises one of the errors at each call, as long as there are any."""

    def fail() -> None:
        if errors:
            raise errors.pop(0)
        then()

    return fail


def test_a_step_stores_the_records_and_says_so_in_one_sentence() -> None:
    source, log = MemorySource([query(1), query(2), b"broken"]), MemoryLog()
    outcome = step(source, log)
    assert outcome.sentence == "Stored 2 records from memory, set 1 aside."
    assert outcome.numbers == {"source": "memory", "stored": 2, "dead_letters": 1}
    assert log.queries == ["q1", "q2"]
    assert log.stored == {"memory": {"memory": 3}}


def test_a_dead_letter_keeps_its_place_its_reason_and_its_payload() -> None:
    log = MemoryLog()
    step(MemorySource([query(1), b"broken"]), log)
    ((_, letter),) = [row for row in log.rows if row[0] == "dead_letter"]
    assert (letter["source"], letter["partition"], letter["offset"]) == ("memory", "memory", 1)
    assert letter["payload"] == b"broken"
    assert letter["reason"].startswith("The record is not JSON")


def test_a_dead_letter_has_the_same_id_each_time_it_is_met() -> None:
    first, second = MemoryLog(), MemoryLog()
    for log in (first, second):
        step(MemorySource([b"broken", b"broken"]), log)
    ids = [[row["dead_letter_id"] for _, row in log.rows] for log in (first, second)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_a_step_that_finds_nothing_writes_nothing() -> None:
    log = MemoryLog(before_commit=failing([AssertionError("there was a transaction")]))
    assert step(MemorySource(), log).verdict == "nothing"


def test_the_source_hears_of_the_offsets_only_after_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Mapping[str, int]] = []
    source = MemorySource([query(1)])
    monkeypatch.setattr(source, "commit", heard.append)
    with pytest.raises(Retry):
        step(source, MemoryLog(before_commit=failing([Retry("not now")])))
    assert heard == []
    source.seek({})
    step(source, MemoryLog())
    assert heard == [{"memory": 1}]


def test_a_batch_delivered_twice_counts_once() -> None:
    source, log = MemorySource([query(1), query(2)]), MemoryLog()
    step(source, log)
    source.seek({})  # as a broker does that never heard of the commit
    with pytest.raises(Retry, match="has stored memory memory up to 2"):
        step(source, log)
    assert log.queries == ["q1", "q2"]


def test_the_loop_begins_where_the_log_store_says() -> None:
    source, stop = MemorySource([query(1), query(2)]), threading.Event()
    log = MemoryLog(before_commit=stop.set)
    log.stored = {"memory": {"memory": 1}}
    run(source, log, stop)
    assert log.queries == ["q2"]


def test_a_batch_that_was_refused_is_polled_again_and_nothing_is_lost() -> None:
    stop = threading.Event()
    log = MemoryLog(before_commit=failing([Retry("not now"), Retry("nor now")], then=stop.set))
    run(MemorySource([query(1), query(2)]), log, stop)
    assert log.queries == ["q1", "q2"]


def test_a_source_or_a_log_that_does_not_answer_at_first_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    source, log = MemorySource([query(1)]), MemoryLog(before_commit=stop.set)
    poll, offsets = source.poll, log.offsets
    poll_fails, offsets_fail = failing([Retry("no broker")]), failing([Retry("no Postgres")])
    monkeypatch.setattr(source, "poll", lambda max_records: (poll_fails(), poll(max_records))[1])
    monkeypatch.setattr(log, "offsets", lambda name: (offsets_fail(), offsets(name))[1])
    run(source, log, stop)
    assert log.queries == ["q1"]


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(loop, "LONGEST_PAUSE_SECONDS", 4.0)
    waited: list[float] = []
    source = MemorySource([query(1)])

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waited.append(timeout)
            if timeout == 0.0:  # idle: the record is stored
                if len(waited) > 6:
                    self.set()
                source.write([query(2)])
                log.before_commit = failing([Retry("not now")])
            return self.is_set()

    log = MemoryLog(before_commit=failing([Retry("not now")] * 5))
    run(source, log, Stop())
    assert waited[:7] == [1.0, 2.0, 4.0, 4.0, 4.0, 0.0, 1.0]


def test_an_error_that_waiting_does_not_mend_ends_the_loop() -> None:
    log = MemoryLog(before_commit=failing([StopDaemon("the log store is spoiled")]))
    with pytest.raises(StopDaemon):
        run(MemorySource([query(1)]), log, threading.Event())


def test_a_stop_during_a_pause_is_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FIRST_PAUSE_SECONDS", 3600.0)
    stop, refused = threading.Event(), threading.Event()

    def refuse() -> None:
        refused.set()
        raise Retry("not now")

    thread = threading.Thread(target=run, args=(MemorySource([query(1)]), MemoryLog(before_commit=refuse), stop))
    thread.start()
    refused.wait()
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_batches_are_stored_whole_and_in_order_while_the_next_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_RECORDS", 10)
    stop, commits = threading.Event(), [0]

    def count() -> None:
        commits[0] += 1
        if commits[0] == 10:
            stop.set()

    log = MemoryLog(before_commit=count)
    run(MemorySource([query(number) for number in range(100)]), log, stop)
    assert log.queries == [f"q{number}" for number in range(100)]


def test_a_batch_that_fails_while_the_next_is_gathered_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_RECORDS", 10)
    stop = threading.Event()
    log = MemoryLog()
    refusals = [Retry("not now"), None, Retry("not now"), None, None, Retry("not now")]

    def sometimes() -> None:
        if refusals and (refusal := refusals.pop(0)):
            raise refusal
        if len(log.queries) == 90:
            stop.set()

    log.before_commit = sometimes
    run(MemorySource([query(number) for number in range(100)]), log, stop)
    assert log.queries == [f"q{number}" for number in range(100)]


def test_no_more_than_one_batch_is_gathered_while_another_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_RECORDS", 10)
    source, stop = MemorySource([query(number) for number in range(100)]), threading.Event()
    ahead: list[int] = []
    log = MemoryLog()

    def look() -> None:
        ahead.append(source._next - len(log.queries))
        if len(log.queries) == 90:
            stop.set()

    log.before_commit = look
    run(source, log, stop)
    assert max(ahead) <= 20


def test_a_consumer_at_work_goes_on_where_a_replay_has_moved_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_RECORDS", 2)
    stop, moves = threading.Event(), [True]
    log = MemoryLog()

    class Source(MemorySource):
        def commit(self, offsets: Mapping[str, int]) -> None:
            super().commit(offsets)
            if offsets == {"memory": 4} and moves and moves.pop():
                log.stored["memory"]["memory"] = 1  # as `relevanced consume --from 1` does
            elif offsets == {"memory": 6}:
                stop.set()

    run(Source([query(number) for number in range(6)]), log, stop)
    assert log.queries == ["q0", "q1", "q2", "q3", "q1", "q2", "q3", "q4", "q5"]


def test_a_partition_that_goes_back_while_a_batch_is_gathered_is_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = MemorySource([query(number) for number in range(4)])
    poll = source.poll

    def poll_and_go_back(max_records: int) -> Any:
        batch = poll(2)
        source.seek({"memory": 1})
        return batch

    monkeypatch.setattr(source, "poll", poll_and_go_back)
    with pytest.raises(Retry, match="went back to 1"):
        gather(source, threading.Event())


def test_a_record_that_no_row_can_be_made_of_is_set_aside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of = storing.query_rows

    def poisoned(queries: Any) -> Any:
        if any(found.query_id == "q2" for found in queries):
            raise OverflowError
        return rows_of(queries)

    monkeypatch.setattr(storing, "query_rows", poisoned)
    log = MemoryLog()
    outcome = step(MemorySource([query(1), query(2), query(3)]), log)
    assert outcome.numbers == {"source": "memory", "stored": 2, "dead_letters": 1}
    assert log.queries == ["q1", "q3"]
    ((_, letter),) = [row for row in log.rows if row[0] == "dead_letter"]
    assert letter["reason"] == "The record cannot be made a row of (OverflowError)."


def test_too_large_a_share_of_bad_records_stops_the_consumer_and_loses_none() -> None:
    log = MemoryLog()
    source = MemorySource([query(1)] * 4 + [b"broken"] * 6)
    with pytest.raises(
        StopDaemon, match=r"6 of the last 10 records from memory .*not JSON.*dead-letters list"
    ) as caught:
        run(source, log, threading.Event(), IngestPolicy(max_bad_share=0.5, bad_share_over=10))
    assert "max_bad_share" in str(caught.value)
    assert log.stored == {"memory": {"memory": 10}}
    assert len(log.rows) == 10


def test_a_share_of_bad_records_within_the_limit_stops_nothing() -> None:
    share = BadShare("memory", IngestPolicy(max_bad_share=0.5, bad_share_over=10))
    share.note(9, ["bad"] * 9)  # too few to say anything
    for _ in range(100):
        share.note(10, ["bad"] * 5)
    with pytest.raises(StopDaemon, match="for this reason: worse"):
        share.note(10, ["bad"] * 2 + ["worse"] * 4)
