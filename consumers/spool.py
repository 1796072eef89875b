"""
The spool: a directory of JSONL files, the way in that needs no broker.

In:  *.jsonl and *.jsonl.gz, put there by SpoolWriter or by anybody else. Out: batches, read by loop.

What logrotate makes of a name (*.jsonl.1, *.jsonl-20260131) is read too, but not what it packs (*.jsonl.2.gz): that has
been read by then, and packed it would be another file.
A file is a partition, and an offset is a byte of its (unpacked) text. Its identity is its inode and its first line, so
it may be renamed while it is read, and a new file on an old inode is a new file. Only complete lines are taken: the
half-written end of a file waits, and a .gz waits until all of it is there. Files of others stay where they are; those
of SpoolWriter are deleted once they are full and stored.
"""

import errno
import fcntl
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from hashlib import sha256
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from relevanced.consumers.decode import MAX_RECORD
from relevanced.daemon.errors import Retry
from relevanced.daemon.records import Batch, RawRecord

MAX_BATCH_BYTES: Final = 16_000_000  # so that a batch of long records fits into memory
MAX_FILE_BYTES: Final = 64_000_000  # after which SpoolWriter begins another; what is consumed is freed by the file
HEAD_BYTES: Final = 4_096  # of the first line, which tell files on one inode apart

NAME: Final = re.compile(r".+\.jsonl(\.gz|[.-]\d+)?")
_OPEN: Final = ".open.jsonl"  # a SpoolWriter may still write to it
_CLOSED: Final = ".closed.jsonl"  # none does; the end of the file ends its last line too

_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """A file as it was when looked at; while this stays the same, so do its content and its name."""

    inode: int
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class _SpoolFile:
    path: Path
    state: _State
    partition: str


class SpoolSource:
    """Reads the files of the directory in the order of their names, packed ones last."""

    name = "spool"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._next: dict[str, int] = {}  # where the next poll goes on
        self._stored: dict[str, int] = {}  # what the log store has, so what may be deleted
        self._partitions: dict[_State, str | None] = {}
        self._read_out: set[_State] = set()  # nothing more to take until they change
        # Kept from poll to poll, for a .gz cannot be entered in the middle.
        self._reading: tuple[_State, GzipFile | BufferedReader] | None = None

    def poll(self, max_records: int) -> Batch:
        """
        Return the next complete lines, at once.

        Raises: Retry when a file cannot be read.
        """
        records: list[RawRecord] = []
        next_offsets: dict[str, int] = {}
        try:
            self._take(max_records, records, next_offsets)
        except OSError as error:
            raise Retry(f"The spool cannot be read: {error}.") from error
        self._next |= next_offsets
        return Batch(self.name, records, next_offsets)

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Go on from these offsets; other files are read from their beginning."""
        self._next, self._stored = dict(offsets), dict(offsets)
        self._read_out.clear()

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Note what is stored, so that the next poll can delete the files that are done with."""
        self._stored |= offsets

    def close(self) -> None:
        """Let go of the file that is being read."""
        if self._reading:
            self._reading[1].close()
            self._reading = None

    def _take(self, max_records: int, records: list[RawRecord], next_offsets: dict[str, int]) -> None:
        room = MAX_BATCH_BYTES
        for file in self._files():
            for record, end in self._lines(file):
                next_offsets[file.partition] = end
                if record.value:  # an empty line is no record
                    records.append(record)
                    room -= len(record.value)
                if len(records) == max_records or room <= 0:
                    return
            self._read_out.add(file.state)

    def _files(self) -> list[_SpoolFile]:
        """The files with something to read; on the way, deletes those of SpoolWriter that are full and stored."""
        names = [path.name for path in self._directory.iterdir() if NAME.fullmatch(path.name)]
        found: list[_SpoolFile] = []
        known, self._partitions = self._partitions, {}
        for name in sorted(names, key=lambda name: (name.endswith(".gz"), name)):
            path = self._directory / name
            try:
                status = path.stat()
                state = _State(status.st_ino, status.st_size, status.st_ctime_ns)
                if state in self._partitions:  # a second name of the same file
                    continue
                partition = known[state] if state in known else _identify(path, state)
            except FileNotFoundError:  # renamed or deleted since it was listed
                continue
            self._partitions[state] = partition
            if partition is None:
                continue
            if name.endswith(_CLOSED) and self._stored.get(partition, 0) >= state.size:
                path.unlink(missing_ok=True)
            elif state not in self._read_out:
                found.append(_SpoolFile(path, state, partition))
        self._read_out &= self._partitions.keys()
        return found

    def _lines(self, file: _SpoolFile) -> Iterator[tuple[RawRecord, int]]:
        """Each complete line from where the partition goes on, empty ones too, with the offset behind it."""
        if self._reading is None or self._reading[0] != file.state:
            self.close()
            try:
                self._reading = file.state, _open_as_seen(file.path, file.state)
            except FileNotFoundError:
                return
        stream, start = self._reading[1], self._next.get(file.partition, 0)
        stream.seek(start)
        while line := stream.readline(MAX_RECORD + 1):
            end, is_complete = start + len(line), line.endswith(b"\n")
            while not is_complete and (rest := stream.readline(MAX_RECORD)):  # too long to be used: only passed over
                end, is_complete = end + len(rest), rest.endswith(b"\n")
            if not is_complete and not _is_whole(file.path):
                return
            yield RawRecord(file.partition, start, line.strip()), end
            start = end


def _open_as_seen(path: Path, state: _State) -> GzipFile | BufferedReader:
    """
    Open the text of the file that was looked at.

    Raises: FileNotFoundError, also when another file has come under this name since.
    """
    stream = GzipFile(path) if path.suffix == ".gz" else path.open("rb")
    if os.fstat(stream.fileno()).st_ino != state.inode:
        stream.close()
        raise FileNotFoundError(path)
    return stream


def _identify(path: Path, state: _State) -> str | None:
    """The partition that this file is, or None as long as its first line, or for a .gz its end, is not there."""
    with _open_as_seen(path, state) as stream:
        try:
            head = stream.readline(HEAD_BYTES)
            while path.suffix == ".gz" and stream.read(MAX_RECORD):
                pass
        except EOFError:  # a .gz that is still being written
            return None
        except (BadGzipFile, zlib.error) as error:
            _logger.warning("Left a file of the spool unread; it is no gzip file.", path=str(path), reason=str(error))
            return None
    if not head or (len(head) < HEAD_BYTES and not head.endswith(b"\n") and not _is_whole(path)):
        return None
    return f"{state.inode}-{sha256(head).hexdigest()[:16]}"


def _is_whole(path: Path) -> bool:
    """Whether nobody writes to the file any more, so that its last line needs no newline."""
    return path.name.endswith((_CLOSED, ".gz"))


class SpoolWriter:
    """
    Appends records to a file of its own, and begins another when that is full.

    Safe to share between threads, and any number of processes may each have one in the same directory. It locks its
    file, so that the next one knows which files a process left behind when it died.
    """

    def __init__(self, directory: Path, *, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._max_file_bytes = max_file_bytes
        self._turn = threading.Lock()
        self._file: FileIO | None = None
        for path in directory.glob(f"*{_OPEN}"):
            _close_if_abandoned(path)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """
        Return once the records are on disk.

        Raises: Retry when they are not; some may be there all the same, and a reader of the log takes each once.
        """
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        with self._turn:
            try:
                file = self._file = self._file or self._begin()
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
                if file.tell() >= self._max_file_bytes:
                    self._end()
            except OSError as error:
                # Lines of this file may have been read, so it is never shortened: what comes next begins a new one.
                self._end()
                raise Retry(f"The spool {self._directory} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Say that nothing more comes to this file; a later write begins another."""
        with self._turn:
            self._end()

    def _begin(self) -> FileIO:
        while True:
            path = self._directory / f"{time.time_ns()}-{uuid4().hex[:8]}{_OPEN}"
            file = FileIO(path, "xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # a writer that began just now may have taken it for abandoned, before it was locked
                _sync_directory(self._directory)
                return file
            file.close()

    def _end(self) -> None:
        if self._file:
            file, self._file = self._file, None
            with file, suppress(OSError):  # a file that cannot be renamed is closed by the next writer
                _rename_to_closed(Path(str(file.name)))


def _close_if_abandoned(path: Path) -> None:
    with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused as long as its writer lives
        _rename_to_closed(path)


def _rename_to_closed(path: Path) -> None:
    path.rename(path.with_name(path.name.removesuffix(_OPEN) + _CLOSED))


def _sync_directory(directory: Path) -> None:
    """Make the name of a new file as safe as its content."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
