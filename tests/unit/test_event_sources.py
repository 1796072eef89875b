"""The sources that need nothing running, by the suite of all; kafka passes it in tests/integration/test_kafka.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from relevanced.consumers.memory import MemorySource
from relevanced.consumers.spool import SpoolSource, SpoolWriter
from relevanced.daemon.ports import EventSource
from tests.sources import EventSourceSuite


class MemoryTransport:
    def __init__(self) -> None:
        self._source = MemorySource()

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._source.write(records)

    def open(self) -> EventSource:
        return self._source


class SpoolTransport:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer = SpoolWriter(directory, max_file_bytes=200)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        for one in records:
            self._writer.write([one])

    def open(self) -> EventSource:
        return SpoolSource(self._directory)


class TestMemory(EventSourceSuite):
    @pytest.fixture
    def transport(self) -> MemoryTransport:
        return MemoryTransport()


class TestSpool(EventSourceSuite):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> SpoolTransport:
        return SpoolTransport(tmp_path)
