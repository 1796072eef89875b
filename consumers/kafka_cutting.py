"""
Cutting: from the record batches that a broker sends to their values, a batch at a time.

In:  batches of Kafka's format 2, from kafka-python's fetcher. Out: RawRecords, for kafka.

kafka-python reads a record field by field and gives each twelve of them, which takes as long as all that the loop does
with it afterwards. Here one step a record finds where the records begin, and numpy reads the two fields that are wanted
in all of them at once, in a tenth of the time. What is not plain - transactions, the older formats, batches too small
to be worth it - is left to kafka-python. https://kafka.apache.org/documentation/#recordbatch has the format.
"""

import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Final

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher, IsolationLevel
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch

from relevanced.daemon.records import RawRecord

MIN_RECORDS: Final = 16  # in a batch, below which numpy's calls cost more than they save
MAX_VARINT_BYTES: Final = 10  # of 64 bits

_raw_record: Final = partial(tuple.__new__, RawRecord)  # of a tuple; half the time that RawRecord() takes


@dataclass(slots=True)
class Cuts:
    """What is wanted of a batch's records, or of those that are left; a value is None where compaction marks a gap."""

    offsets: list[int]
    values: list[bytes | None]


def cut_batches(consumer: KafkaConsumer, names: Mapping[TopicPartition, str]) -> None:
    """
    Let this consumer's polls give RawRecords in place of kafka-python's own, without those that have no value.

    Args:
        names: the partitions', looked at with each poll; where one has none, its records are for nobody.
    """

    class NamedRecords(CutRecords):
        partition_names = names

    consumer._fetcher.PartitionRecords = NamedRecords  # no setting of kafka-python's does it; hence its pinned version


class CutRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python ships no types
    """kafka-python's reader of one partition's part of an answer, which keeps the place that the next fetch begins."""

    partition_names: Mapping[TopicPartition, str] = {}
    _left: Cuts | None = None  # of a batch of which a poll wanted a part

    def take(self, n: int | None = None) -> list[RawRecord]:
        """
        Take the next records, n at most.

        Raises: CorruptRecordError, once the records before the corrupt ones are taken.
        """
        self._maybe_raise_next_inline_exception()
        records: list[RawRecord] = []
        name, room = self.partition_names.get(self.topic_partition, ""), n or sys.maxsize
        try:
            while room > 0 and (cuts := self._left or next(self.record_iterator, None)) is not None:
                offsets, values = cuts.offsets[:room], cuts.values[:room]
                self.next_fetch_offset = offsets[-1] + 1
                self._left = Cuts(cuts.offsets[room:], cuts.values[room:]) if room < len(cuts.offsets) else None
                room -= len(offsets)
                cut_now = map(_raw_record, zip(repeat(name), offsets, values, strict=False))
                records += [one for one in cut_now if one.value is not None] if None in values else cut_now
        except Exception as error:  # whatever it is, it comes after the records before it, as kafka-python has it
            if not records:
                raise
            self._next_inline_exception = error
        return records

    def _maybe_skip_record(self, cuts: Cuts) -> bool:
        """Leave out what comes before the offset that was asked for, which may lie within a batch."""
        begin = bisect_left(cuts.offsets, self.fetch_offset)
        del cuts.offsets[:begin], cuts.values[:begin]
        return not cuts.offsets

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Cuts]:
        if self.isolation_level == IsolationLevel.READ_COMMITTED:
            for record in super()._unpack_records(tp, records, *deserializers):
                yield Cuts([record.offset], [record.value])
            return
        batch = None
        while (following := records.next_batch()) is not None:
            batch = following
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"The batch of {tp} at offset {batch.base_offset} has a wrong checksum.")
            if batch.magic == 2:
                self.leader_epoch = batch.leader_epoch
                if batch.is_control_batch:  # says how a transaction ended, and is not for readers
                    self.next_fetch_offset = batch.next_offset
                    continue
            cuts = self._read(batch)
            self.records_read += len(cuts.offsets)
            if cuts.offsets:
                yield cuts
        if batch is not None and batch.magic == 2:
            self.next_fetch_offset = batch.next_offset  # compaction may have taken the batch's last records
        self.drain()

    def _read(self, batch: Any) -> Cuts:
        self.bytes_read += batch.size_in_bytes
        if batch.magic == 2 and batch.records_count >= MIN_RECORDS:
            return cut(batch)
        found = list(batch)
        if self.check_crcs and not all(record.validate_crc() for record in found):  # the older formats have one each
            raise CorruptRecordError(f"A record behind offset {batch.base_offset} has a wrong checksum.")
        return Cuts([record.offset for record in found], [record.value for record in found])


def cut(batch: DefaultRecordBatch) -> Cuts:
    """
    Cut a batch of format 2 into its records.

    Raises: CorruptRecordError when its bytes are no such batch, as kafka-python does.
    """
    batch._maybe_uncompress()
    data = bytes(batch._buffer)
    try:
        begins, ends = _bounds(data, batch._pos, batch.records_count)
        offsets, value_begins, value_ends = _fields(np.frombuffer(data, np.uint8), begins, ends)
    except IndexError:
        raise CorruptRecordError(f"The batch at offset {batch.base_offset} ends in the middle of a record.") from None
    values = [
        data[begin:end] if begin <= end else None
        for begin, end in zip(value_begins.tolist(), value_ends.tolist(), strict=True)
    ]
    return Cuts((batch.base_offset + offsets).tolist(), values)


def _bounds(data: bytes, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Where each record begins, behind its length, and ends.

    Raises: IndexError when one goes beyond the data, CorruptRecordError when the last does not reach their end.
    """
    begins, ends = [], []
    for _ in range(count):
        length = data[position]
        if length < 128:
            position += 1
        elif (second := data[position + 1]) < 128:
            length = length & 127 | second << 7
            position += 2
        else:
            length, position = _long_varint(data, position)
        begins.append(position)
        position += length >> 1  # zigzag; a negative length is odd
        if length & 1:
            raise CorruptRecordError("A record has a negative length.")
        ends.append(position)
    if position != len(data):
        raise CorruptRecordError(f"The records end at byte {position}, and their batch at {len(data)}.")
    return np.array(begins), np.array(ends)


def _long_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for place in range(MAX_VARINT_BYTES):
        byte = data[position + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise CorruptRecordError("A record's length has more than 64 bits.")


def _fields(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The offset deltas, and where each value begins and ends; one that is null ends before it begins.

    Raises: IndexError or CorruptRecordError when a field goes beyond its record.
    """
    _, position = _varints(data, begins + 1)  # the attributes, then the timestamp
    offsets, position = _varints(data, position)
    key_sizes, position = _varints(data, position)
    sizes, position = _varints(data, position + np.maximum(key_sizes, 0))
    value_ends = position + sizes
    # One byte at least is left, which counts the headers.
    if (position > ends).any() or (value_ends >= ends).any() or (sizes < -1).any() or (key_sizes < -1).any():
        raise CorruptRecordError("A field of a record goes beyond its end.")
    return offsets, position, value_ends


def _varints(data: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Read one zigzag varint at each place: the numbers, and where each ends.

    Raises: IndexError beyond the data, CorruptRecordError when one has more than 64 bits.
    """
    position, shift = begins, 0
    values = np.zeros(len(begins), np.uint64)
    is_open = np.ones(len(begins), bool)
    while is_open.any():
        if shift == 7 * MAX_VARINT_BYTES:
            raise CorruptRecordError("A number has more than 64 bits.")
        bytes_here = data[np.where(is_open, position, 0)]
        values |= np.where(is_open, bytes_here & 127, 0).astype(np.uint64) << np.uint64(shift)
        position = position + is_open
        is_open &= bytes_here > 127
        shift += 7
    return (values >> np.uint64(1)).astype(np.int64) ^ -(values & np.uint64(1)).astype(np.int64), position
