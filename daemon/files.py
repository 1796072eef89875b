"""
Files: read line by line, gzipped or not; written so that they are complete or not there.

In:  a path. Out: its lines, with what is wrong in one sentence; or the file under its name, once all of it is on disk.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from relevanced.daemon.errors import BadInput

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """
    Yield the lines that are not blank, without their ends, with their numbers from 1; gzip is known by its content.

    Raises: BadInput, naming the file and how far it could be read.
    """
    number = 0
    try:
        with file.open("rb") as opened:
            zipped = opened.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            opened.seek(0)
            for number, line in enumerate(gzip.GzipFile(fileobj=opened) if zipped else opened, start=1):
                if line.strip():
                    yield number, line.removeprefix(_BYTE_ORDER_MARK if number == 1 else b"").rstrip(b"\r\n")
    except FileNotFoundError as error:
        raise BadInput(f"{file} does not exist; name a file that does, gzipped or not.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{file}, after line {number}: the gzip data is broken; fetch the file again.") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}.") from error


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """
    Give the path to write to; at the end of the block that file takes the place of `file`.

    A block that raises leaves `file` as it was. A process that is killed leaves NAME.partial behind, which nobody reads
    and the next one overwrites.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    """Write a small text file in UTF-8."""
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")


def write_asked(file: Path, text: str) -> None:
    """
    Write a text file that a person asked for, whole or not at all.

    Raises: BadInput when it cannot be written.
    """
    try:
        write_text(file, text)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}; name a file in a folder with room.") from None


def require_folder(file: Path) -> None:
    """
    See, before long work, that what will come of it has a place.

    Raises: BadInput when the folder of the file is not there, or the name is a folder's.
    """
    if file.is_dir():
        raise BadInput(f"{file} is a folder; name a file in it.")
    if not file.parent.is_dir():
        raise BadInput(f"{file} cannot be written: there is no folder {file.parent}; make it, or name another.")
