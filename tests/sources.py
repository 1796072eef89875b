"""
What every EventSource does, as one suite of tests: a transport's test module subclasses it with a fixture `transport`.

The same suite holds for memory, spool and kafka, so the loop need not know which one it reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from relevanced.daemon.ports import EventSource
from relevanced.daemon.records import RawRecord


class Transport(Protocol):
    """A place that records can be handed in at, and any number of sources that read it as one consumer."""

    def write(self, records: Sequence[Mapping[str, Any]]) -> None: ...

    def open(self) -> EventSource: ...


def record(number: int) -> dict[str, Any]:
    return {"query_id": f"q{number}", "user_query": "words"}


def ids(records: Sequence[RawRecord]) -> list[str]:
    return sorted(msgspec.json.decode(record.value)["query_id"] for record in records)


class EventSourceSuite:
    def test_every_record_comes_once(self, transport: Transport) -> None:
        transport.write([record(number) for number in range(20)])
        source = transport.open()
        found, offsets = drain(source, 20, at_a_time=7)
        assert ids(found) == sorted(f"q{number}" for number in range(20))
        assert not source.poll(7).records
        source.commit(offsets)
        source.close()

    def test_a_batch_is_no_larger_than_asked_for_and_says_where_the_next_one_begins(self, transport: Transport) -> None:
        transport.write([record(number) for number in range(10)])
        source = transport.open()
        source.seek({})
        batch = next_batch(source, 4)
        assert 0 < len(batch.records) <= 4
        assert batch.source == source.name
        assert set(batch.next_offsets) == {record.partition for record in batch.records}
        for last in {record.partition: record for record in batch.records}.values():
            assert batch.next_offsets[last.partition] > last.offset
        source.close()

    def test_seeking_to_stored_offsets_gives_what_follows_them_and_no_more(self, transport: Transport) -> None:
        transport.write([record(number) for number in range(10)])
        source = transport.open()
        source.seek({})
        first = next_batch(source, 5)
        next_batch(source, 5)  # polled, and never stored
        source.seek(first.next_offsets)
        rest, _ = drain(source, 10 - len(first.records), at_a_time=10, begun=True)
        assert ids([*first.records, *rest]) == sorted(f"q{number}" for number in range(10))
        source.close()

    def test_another_source_goes_on_where_the_offsets_say(self, transport: Transport) -> None:
        transport.write([record(number) for number in range(10)])
        source = transport.open()
        _, offsets = drain(source, 10, at_a_time=10)
        source.close()
        transport.write([record(number) for number in range(10, 13)])
        successor = transport.open()
        successor.seek(offsets)
        found, _ = drain(successor, 3, at_a_time=10, begun=True)
        assert ids(found) == ["q10", "q11", "q12"]
        successor.close()


def next_batch(source: EventSource, max_records: int) -> Any:
    """The next batch with records; a broker may answer a poll or two with none before they come."""
    while not (batch := source.poll(max_records)).records:
        pass
    return batch


def drain(
    source: EventSource, count: int, *, at_a_time: int, begun: bool = False
) -> tuple[list[RawRecord], dict[str, int]]:
    """Poll until so many records have come; also the offsets behind them."""
    if not begun:
        source.seek({})
    found: list[RawRecord] = []
    offsets: dict[str, int] = {}
    while len(found) < count:
        batch = next_batch(source, at_a_time)
        found += batch.records
        offsets |= batch.next_offsets
    return found, offsets
