"""
Erasing records from the spool: a line becomes blanks, in its place.

In:  the directory, and what tells whether a line has to go. Out: files of the same length; every offset still holds.
Only files of SpoolWriter are touched, one that is being written to among them; others are named, for whoever put them.
"""

import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from gzip import BadGzipFile, GzipFile
from hashlib import sha256
from pathlib import Path

from relevanced.consumers.spool import _CLOSED, _OPEN, HEAD_BYTES, NAME, _identify, _State

Moving = Callable[[str, str], AbstractContextManager[None]]


def erase(directory: Path, has_to_go: Callable[[bytes], bool], moving: Moving) -> tuple[int, list[Path]]:
    """
    Blank the lines that have to go.

    Args:
        moving: gets the old and the new partition of a file whose first line, part of its identity, is about to go.
            While its block lasts no consumer may store; after it the new one goes on where the old one was.
    Returns: how many lines, and the files of others that hold such lines.
    """
    erased, others = 0, []
    for path in sorted(path for path in directory.iterdir() if NAME.fullmatch(path.name)):
        try:
            if path.name.endswith((_OPEN, _CLOSED)):
                erased += _erase_in(path, has_to_go, moving)
            elif _holds_one(path, has_to_go):
                others.append(path)
        except FileNotFoundError:  # stored and deleted, or renamed and no longer written to, since it was listed
            continue
    return erased, others


def _holds_one(path: Path, has_to_go: Callable[[bytes], bool]) -> bool:
    """Whether a file of others has such a line; of one that is no gzip file, as far as it can be read."""
    with (
        GzipFile(path) if path.suffix == ".gz" else path.open("rb") as lines,
        suppress(EOFError, BadGzipFile, zlib.error),
    ):
        return any(has_to_go(line) for line in lines)
    return False


def _erase_in(path: Path, has_to_go: Callable[[bytes], bool], moving: Moving) -> int:
    places: list[tuple[int, int]] = []
    with path.open("r+b") as file:
        start = 0
        for line in file:
            if line.endswith(b"\n") and line.strip() and has_to_go(line):
                places.append((start, len(line) - 1))
            start += len(line)
        names = _names(path, places[0][1]) if places and places[0][0] == 0 else None
        with moving(*names) if names else nullcontext():
            for start, length in places:
                os.pwrite(file.fileno(), b" " * length, start)
            os.fsync(file.fileno())
    return len(places)


def _names(path: Path, first_length: int) -> tuple[str, str] | None:
    """The partition that a file is, and the one that it becomes without its first line; None while it is none."""
    status = path.stat()
    before = _identify(path, _State(status.st_ino, status.st_size, status.st_ctime_ns))
    blank = (b" " * first_length + b"\n")[:HEAD_BYTES]
    return None if before is None else (before, f"{status.st_ino}-{sha256(blank).hexdigest()[:16]}")
