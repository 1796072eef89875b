"""What the stages ask of one another. Each port has the few methods that its caller uses."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relevanced.daemon.records import Batch

Vectors = npt.NDArray[np.float32]


class EventSource(Protocol):
    """Where events come from: kafka.KafkaSource, spool.SpoolSource, memory.MemorySource."""

    name: str

    def poll(self, max_records: int) -> Batch:
        """Return at most max_records, at once or after a short wait; an empty batch when there are none."""
        ...

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Go on from these offsets; a partition that is not named starts at its beginning."""
        ...

    def commit(self, offsets: Mapping[str, int]) -> None:
        """Tell the broker, as a courtesy to lag monitors; the log store's offsets are the ones that count."""
        ...

    def close(self) -> None: ...


class LogRows(Protocol):
    """One open transaction of the log store: rows and the offsets behind them become visible together."""

    def append(self, table: str, rows: pa.Table) -> None: ...

    def advance(self, source: str, next_offsets: Mapping[str, int]) -> None: ...


class EventLog(Protocol):
    """The log store as the consumers see it: log_store.LogStore."""

    def transaction(self) -> AbstractContextManager[LogRows]: ...

    def offsets(self, source: str) -> dict[str, int]: ...


class RecordSink(Protocol):
    """Where UBI records are handed in: spool.SpoolWriter, kafka.KafkaSink, memory.MemorySource."""

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Return once the records are safe (on disk, or acknowledged by the broker)."""
        ...


class ClosableSink(RecordSink, Protocol):
    """A RecordSink that holds something open: spool.SpoolWriter, kafka_sink.KafkaSink."""

    def close(self) -> None: ...


class Encoder(Protocol):
    """An embedding model in one fixed vector space: encoder.TransformerEncoder."""

    fingerprint: str
    document_fingerprint: str  # of the documents' side alone: where it is the same, an index can be shared
    dimension: int
    device: str  # where it computes: cpu, a GPU by its name, or an endpoint

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dimension), unit length."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dimension), unit length."""
        ...


class Progress(Protocol):
    """Hears how far long work is: the cycle's row, the progress bar of the cli, or nobody."""

    def __call__(self, label: str, done: int, total: int, detail: str = "") -> None:
        """
        Note how far it is.

        Args:
            label: of the work, the same for as long as it is the same.
            detail: what else there is to see at this point, such as the loss.
        """
        ...


def silent(label: str, done: int, total: int, detail: str = "") -> None:
    """The Progress of work that nobody watches."""
