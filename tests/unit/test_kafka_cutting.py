"""Cutting: the offsets and values that kafka-python reads from the same bytes, and its error for the same damage."""

import struct
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from relevanced.consumers.kafka_cutting import MIN_RECORDS, CutRecords, cut

PLACE = TopicPartition("ubi", 0)
CONTROL = 0b100000
HEADER_BYTES = 61  # of a batch
Record = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

texts = st.none() | st.binary(max_size=20) | st.integers(60, 20_000).map(lambda size: b"v" * size)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)
# Gaps are what compaction leaves. The first delta is 0 and the first time the batch's own.
plain = st.tuples(st.integers(1, 300), st.integers(-(10**6), 10**10), texts, texts, headers)


def batch_of(found: Sequence[Record], *, codec: int = 0, base: int = 0, is_control: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 10**9)
    offset = -1
    for gap, time, key, value, named in found:
        offset += gap if offset >= 0 else 1
        assert builder.append(offset, 1_700_000_000_000 + time, key, value, named)
    data = bytearray(builder.build())
    data[:8] = struct.pack(">q", base)
    if is_control:
        data[22] |= CONTROL  # the second byte of the attributes; the checksum is then wrong
    return bytes(data)


def read_by(
    reader: Any, data: bytes, fetch_offset: int = 0, *, check_crcs: bool = True
) -> tuple[list[tuple[int, bytes]], int, Any]:
    drained: list[Any] = []
    part = reader(fetch_offset, PLACE, MemoryRecords(data), check_crcs=check_crcs, on_drain=drained.append)
    found = part.take(7)
    found += part.take() if part else []
    return (
        [(one.offset, one.value) for one in found if one.value is not None],
        part.next_fetch_offset,
        [bool(part), len(drained), part.leader_epoch, part.records_read],
    )


def many(values: Sequence[bytes | None]) -> list[Record]:
    return [(1, number, None, value, []) for number, value in enumerate(values)]


@given(st.lists(st.lists(plain, min_size=1, max_size=3 * MIN_RECORDS), min_size=1, max_size=3), st.integers(0, 200))
def test_it_reads_what_kafka_python_reads(batches: list[list[Record]], fetch_offset: int) -> None:
    data = b"".join(batch_of(found, base=20_000 * number) for number, found in enumerate(batches))
    assert read_by(CutRecords, data, fetch_offset) == read_by(Fetcher.PartitionRecords, data, fetch_offset)


@given(st.lists(plain, min_size=1, max_size=3 * MIN_RECORDS), st.integers(0, 50))
def test_where_only_committed_records_are_read_kafka_python_reads_them(found: list[Record], fetch_offset: int) -> None:
    def read_by_committed(reader: Any) -> tuple[list[tuple[int, bytes]], int, Any]:
        return read_by(partial(reader, isolation_level=IsolationLevel.READ_COMMITTED), batch_of(found), fetch_offset)

    assert read_by_committed(CutRecords) == read_by_committed(Fetcher.PartitionRecords)


@pytest.mark.parametrize("codec", range(5))
def test_every_codec_is_read(codec: int) -> None:
    found = many([b"value %d" % number * 30 for number in range(1000)])
    read, next_offset, _ = read_by(CutRecords, batch_of(found, codec=codec, base=2**40))
    assert [value for _, value in read] == [value for _, _, _, value, _ in found]
    assert [offset for offset, _ in read] == list(range(2**40, 2**40 + 1000))
    assert next_offset == 2**40 + 1000


def test_what_says_how_a_transaction_ended_is_passed_over() -> None:
    data = batch_of(many([b"a"] * 20)) + batch_of(many([b"end"]), base=20, is_control=True)
    read = read_by(CutRecords, data, check_crcs=False)
    assert read == read_by(Fetcher.PartitionRecords, data, check_crcs=False)
    assert (len(read[0]), read[1]) == (20, 21)


def test_a_damaged_batch_is_refused() -> None:
    data = bytearray(batch_of(many([b"value"] * 100)))
    data[-10] ^= 1
    with pytest.raises(CorruptRecordError, match="wrong checksum"):
        read_by(CutRecords, bytes(data))


@given(st.lists(plain, min_size=MIN_RECORDS, max_size=2 * MIN_RECORDS), st.data())
def test_damage_that_the_checksum_does_not_show_ends_in_the_same_error(
    found: list[Record], data: st.DataObject
) -> None:
    damaged = bytearray(batch_of(found))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(HEADER_BYTES, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        cuts = cut(DefaultRecordBatch(bytes(damaged)))
    except CorruptRecordError:
        return
    assert len(cuts.offsets) == len(cuts.values) == len(found)


def test_a_poll_takes_so_many_and_the_next_goes_on_behind_them() -> None:
    data = batch_of(many([b"value"] * 50)) + batch_of(many([b"value", None] * 25), base=50)
    part = CutRecords(10, PLACE, MemoryRecords(data))
    taken, places = [], []
    while part:
        taken.append([record.offset for record in part.take(15)])
        places.append(part.next_fetch_offset)
    assert taken[:3] == [list(range(10, 25)), list(range(25, 40)), [*range(40, 50), 50, 52, 54]]
    assert [offset for some in taken for offset in some] == [*range(10, 50), *range(50, 100, 2)]
    assert places[:3] == [25, 40, 55]
    assert places[-1] == 100


def test_records_bear_the_name_that_their_partition_has_when_they_are_taken() -> None:
    names: dict[TopicPartition, str] = {}

    class Named(CutRecords):
        partition_names = names

    part = Named(0, PLACE, MemoryRecords(batch_of(many([b"value"] * 50))))
    assert {record.partition for record in part.take(10)} == {""}
    names[PLACE] = "ubi@1:0"
    assert {record.partition for record in part.take(10)} == {"ubi@1:0"}


def test_damage_in_a_later_batch_costs_no_record_before_it() -> None:
    damaged = bytearray(batch_of(many([b"value"] * 100), base=100))
    damaged[-10] ^= 1
    part = CutRecords(0, PLACE, MemoryRecords(batch_of(many([b"value"] * 100)) + bytes(damaged)))
    assert len(part.take(150)) == 100
    assert part.next_fetch_offset == 100
    with pytest.raises(CorruptRecordError):
        part.take(150)
