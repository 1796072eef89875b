"""
Files that are only looked at: the records of a file, or of all files of a directory, line by line.

In:  *.jsonl, *.ndjson or *.json, packed with gzip or not; OpenSearch's bulk format too. Out: batches, read by loop.
"""

from collections.abc import Generator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines
from relevanced.daemon.records import Batch, RawRecord

SUFFIXES: Final = (".jsonl", ".ndjson", ".json")


class FilesSource:
    """An EventSource that goes through its files once; a partition is a file, an offset a line from 1."""

    name = "files"

    def __init__(self, place: Path) -> None:
        """
        Take a file, or the directory whose files are read in the order of their names.

        Raises: BadInput when there is no such place, or nothing in it to read.
        """
        self.files = _files_of(place)
        self.files_read = 0
        self._records = self._read()

    def poll(self, max_records: int) -> Batch:
        """
        Return the next lines, at once.

        Raises: BadInput when a file cannot be read.
        """
        records = list(islice(self._records, max_records))
        return Batch(self.name, records, {record.partition: record.offset + 1 for record in records})

    def seek(self, offsets: Mapping[str, int]) -> None:
        """A file that is looked at is read from its beginning; nobody has been here before."""

    def commit(self, offsets: Mapping[str, int]) -> None:
        """The file stays as it is."""

    def close(self) -> None:
        """Let go of the file that is being read."""
        self._records.close()

    def _read(self) -> Generator[RawRecord, None, None]:
        for file in self.files:
            for number, line in read_lines(file):
                yield RawRecord(file.name, number, line)
            self.files_read += 1


def _files_of(place: Path) -> list[Path]:
    if not place.exists():
        raise BadInput(f"{place} does not exist; name a file of UBI records, or a directory of such files.")
    if not place.is_dir():
        return [place]
    files = sorted(file for file in place.iterdir() if file.name.removesuffix(".gz").endswith(SUFFIXES))
    if not files:
        raise BadInput(f"{place} has no {', '.join(SUFFIXES)} file, packed or not; name a file of UBI records.")
    return files
