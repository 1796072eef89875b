"""The spool: which lines are taken and when, what is the same file, and what the writer leaves behind."""

import gzip
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relevanced.consumers import spool
from relevanced.consumers.decode import MAX_RECORD, decode
from relevanced.consumers.spool import SpoolSource, SpoolWriter
from relevanced.daemon.errors import DeadLetter, Retry


def values(source: SpoolSource, max_records: int = 1000) -> list[bytes]:
    return [record.value for record in source.poll(max_records).records]


def store_all(source: SpoolSource) -> dict[str, int]:
    """Do as the loop does until nothing is left; the offsets that the log store would hold."""
    stored: dict[str, int] = {}
    while offsets := source.poll(1000).next_offsets:
        stored |= offsets
        source.commit(offsets)
    return stored


def test_lines_are_taken_once_and_later_ones_follow(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"one\ntwo\n")
    source = SpoolSource(tmp_path)
    assert values(source) == [b"one", b"two"]
    assert values(source) == []
    with file.open("ab") as more:
        more.write(b"three\n")
    assert values(source) == [b"three"]


def test_a_half_written_last_line_waits_for_its_end(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"on")
    source = SpoolSource(tmp_path)
    assert values(source) == []
    file.write_bytes(b"one\ntw")
    assert values(source) == [b"one"]
    file.write_bytes(b"one\ntwo\n")
    assert values(source) == [b"two"]


def test_a_batch_holds_no_more_than_was_asked_for_and_the_next_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n3\n")
    (tmp_path / "b.jsonl").write_bytes(b"4\n5\n")
    source = SpoolSource(tmp_path)
    assert [values(source, 2) for _ in range(4)] == [[b"1", b"2"], [b"3", b"4"], [b"5"], []]


def test_a_batch_of_long_records_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_BATCH_BYTES", 10)
    (tmp_path / "a.jsonl").write_bytes(b"123456\n123456\n123456\n")
    source = SpoolSource(tmp_path)
    assert [len(values(source)) for _ in range(3)] == [2, 1, 0]


def test_empty_lines_are_passed_over_and_their_bytes_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"one\n\n \r\ntwo\r\n\n")
    source = SpoolSource(tmp_path)
    batch = source.poll(1000)
    assert [(record.offset, record.value) for record in batch.records] == [(0, b"one"), (8, b"two")]
    assert list(batch.next_offsets.values()) == [14]


def test_a_restart_goes_on_at_the_stored_offsets(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n3\n")
    offsets = SpoolSource(tmp_path).poll(2).next_offsets
    restarted = SpoolSource(tmp_path)
    restarted.seek(offsets)
    assert values(restarted) == [b"3"]


def test_seeking_back_gives_again_what_was_polled_and_not_stored(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n2\n")
    source = SpoolSource(tmp_path)
    assert values(source) == [b"1", b"2"]
    source.seek({})
    assert values(source) == [b"1", b"2"]


def test_a_renamed_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n")
    source = SpoolSource(tmp_path)
    assert values(source) == [b"1"]
    (tmp_path / "a.jsonl").rename(tmp_path / "a-2025-01-01.jsonl")
    with (tmp_path / "a-2025-01-01.jsonl").open("ab") as more:
        more.write(b"2\n")
    assert values(source) == [b"2"]


def test_a_file_that_logrotate_moves_away_is_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"one\n")
    source = SpoolSource(tmp_path)
    assert values(source) == [b"one"]
    with file.open("ab") as writer:
        file.rename(tmp_path / "a.jsonl.1")
        file.write_bytes(b"three\n")
        writer.write(b"two\n")
    assert sorted(values(source)) == [b"three", b"two"]
    (tmp_path / "a.jsonl.1").rename(tmp_path / "a.jsonl-20260131")
    (tmp_path / "a.jsonl.2.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert values(source) == []


def test_a_new_file_on_an_old_inode_is_a_new_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"first 1\nfirst 2\n")
    source = SpoolSource(tmp_path)
    stored = store_all(source)
    inode = file.stat().st_ino
    file.write_bytes(b"second 1\n")  # as copytruncate does
    assert file.stat().st_ino == inode
    assert values(source) == [b"second 1"]
    restarted = SpoolSource(tmp_path)
    restarted.seek(stored)
    assert values(restarted) == [b"second 1"]


def test_a_second_name_of_a_file_gives_no_second_record(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n")
    (tmp_path / "b.jsonl").hardlink_to(tmp_path / "a.jsonl")
    assert values(SpoolSource(tmp_path)) == [b"1"]


def test_a_packed_file_is_taken_when_all_of_it_is_there(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b"%d\n" % number for number in range(1000)) + b"last")
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(packed[:-20])
    source = SpoolSource(tmp_path)
    assert values(source) == []
    file.write_bytes(packed)
    assert [len(values(source, 400)) for _ in range(4)] == [400, 400, 201, 0]
    restarted = SpoolSource(tmp_path)
    restarted.seek(source.poll(1).next_offsets or {})
    assert len(values(restarted, 2000)) == 1001


def test_a_file_that_only_looks_packed_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"not packed at all\n")
    (tmp_path / "b.jsonl").write_bytes(b"1\n")
    assert values(SpoolSource(tmp_path)) == [b"1"]


def test_a_line_that_is_too_long_is_passed_over_but_for_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * (3 * MAX_RECORD) + b"\nshort\n")
    long, short = SpoolSource(tmp_path).poll(1000).records
    assert (short.offset, short.value) == (3 * MAX_RECORD + 1, b"short")
    with pytest.raises(DeadLetter, match="longer than 1,000,000 bytes"):
        decode(long.value)


def test_a_spool_that_cannot_be_read_is_a_retry(tmp_path: Path) -> None:
    source = SpoolSource(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    with pytest.raises(Retry, match="The spool cannot be read"):
        source.poll(10)


def test_what_the_writer_writes_the_source_reads(tmp_path: Path) -> None:
    writer, source = SpoolWriter(tmp_path), SpoolSource(tmp_path)
    writer.write([{"query_id": "1"}, {"query_id": "2"}])
    assert [json.loads(value)["query_id"] for value in values(source)] == ["1", "2"]


def test_full_files_of_the_writer_are_deleted_when_they_are_stored(tmp_path: Path) -> None:
    writer, source = SpoolWriter(tmp_path, max_file_bytes=50), SpoolSource(tmp_path)
    foreign = tmp_path / "theirs.jsonl"
    foreign.write_bytes(b"1\n")
    for number in range(10):
        writer.write([{"query_id": str(number)}])
    assert len(list(tmp_path.iterdir())) > 2
    assert len(values(source)) == 11
    source.seek({})  # they were not stored
    assert len(values(source)) == 11
    source.seek({})
    store_all(source)
    writer.close()
    store_all(source)
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_file_that_is_stored_before_it_is_closed_is_deleted_too(tmp_path: Path) -> None:
    writer, source = SpoolWriter(tmp_path), SpoolSource(tmp_path)
    writer.write([{"query_id": "1"}])
    store_all(source)
    assert len(list(tmp_path.iterdir())) == 1
    writer.close()
    assert values(source) == []
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_writer_and_each_line_stays_whole(tmp_path: Path) -> None:
    writer, source = SpoolWriter(tmp_path, max_file_bytes=2_000), SpoolSource(tmp_path)

    def write(thread: int) -> None:
        for number in range(20):
            writer.write([{"query_id": f"{thread}-{number}", "user_query": "x" * number}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = [json.loads(value)["query_id"] for value in values(source)]
    assert sorted(found) == sorted(f"{thread}-{number}" for thread in range(4) for number in range(20))


def test_the_file_of_a_writer_that_died_is_closed_by_the_next_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    living = SpoolWriter(tmp_path)
    living.write([{"query_id": "living"}])
    program = (
        "import os, signal; from pathlib import Path; from relevanced.consumers.spool import SpoolWriter\n"
        f"SpoolWriter(Path({str(tmp_path)!r})).write([{{'query_id': 'dead'}}]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.open.jsonl"))) == 2
    SpoolWriter(tmp_path)
    (closed,) = tmp_path.glob("*.closed.jsonl")
    assert b"dead" in closed.read_bytes()
    source = SpoolSource(tmp_path)
    assert len(values(source)) == 2


def test_the_torn_end_of_a_closed_file_is_taken_rather_than_kept_for_ever(tmp_path: Path) -> None:
    (tmp_path / "1.open.jsonl").write_bytes(b'{"query_id": "1"}\n{"query_id"')
    source = SpoolSource(tmp_path)
    assert len(values(source)) == 1
    SpoolWriter(tmp_path)
    assert values(source) == [b'{"query_id"']


def test_a_full_disk_is_a_retry_and_the_next_write_begins_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, source = SpoolWriter(tmp_path), SpoolSource(tmp_path)
    writer.write([{"query_id": "1"}])

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Retry, match="No space left on device"):
            writer.write([{"query_id": "2"}])
    writer.write([{"query_id": "3"}])
    assert len(list(tmp_path.glob("*.closed.jsonl"))) == 1
    assert [json.loads(value)["query_id"] for value in values(source)] == ["1", "2", "3"]
