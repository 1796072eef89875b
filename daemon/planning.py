"""
What it would take to build the index of a version: rows, bytes, memory, seconds, money.

In:  a version, the documents, a probe of its encoder, what earlier builds took. Out: a plan, in sentences and numbers.
`relevanced plan N` says it, and `rollback --to N` before it rebuilds.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.cost import POSTGRES, PricesPolicy, money
from relevanced.daemon.database import Database
from relevanced.daemon.documents import document_text
from relevanced.daemon.embeddings import Embeddings
from relevanced.daemon.index import IndexPolicy
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import Encoder
from relevanced.daemon.records import Version
from relevanced.daemon.sizing import index_size

PROBED: Final = 64  # documents that are encoded to see how long that takes
WARMED: Final = 8  # before that, since the first ones pay for what is done once
SPARE_MB: Final = 4  # pgvector sets 3 aside where several processes build, and takes memory by the MB
ENOUGH_ROWS: Final = 1000  # of an index whose build says how fast the next will be
# Where no build has been measured: vectors of 384 dimensions a second on 2 cores, into a new HNSW and into one that is
# there. More dimensions take longer in proportion.
BUILT_RATE: Final = 6500.0
INSERTED_RATE: Final = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an index would take; bytes, seconds, and how many rows. None: nobody knows, or there is no price."""

    version_id: int
    index_version_id: int
    documents: int
    to_encode: int
    dimension: int
    table_bytes: int
    hnsw_bytes: int
    present_bytes: int  # of these, what is there already
    graph_bytes: int  # of memory for the HNSW, where it is still to be built
    build_memory_mb: int
    encode_seconds: float
    hnsw_seconds: float
    device: str
    measured_hnsw: bool  # on an index of this dimension, else elsewhere
    free_bytes: int | None
    money: float | None
    currency: str

    @property
    def missing_bytes(self) -> int:
        """What the disk has to take yet."""
        return max(0, self.table_bytes + self.hnsw_bytes - self.present_bytes)

    @property
    def fits(self) -> bool | None:
        """Whether the disk of Postgres can hold it; None where it is on another machine."""
        return None if self.free_bytes is None else self.missing_bytes <= self.free_bytes

    @property
    def build_memory_needed_mb(self) -> int:
        """What build_memory_mb has to be for the graph to fit."""
        return (self.graph_bytes >> 20) + SPARE_MB if self.graph_bytes else 0

    def numbers(self) -> dict[str, Any]:
        """The plan for machines."""
        derived = {"fits": self.fits, "build_memory_needed_mb": self.build_memory_needed_mb}
        return {**asdict(self), "missing_bytes": self.missing_bytes, **derived}

    def sentences(self) -> Iterator[str]:
        """The plan for people."""
        number, owner = self.version_id, self.index_version_id
        whose = "" if number == owner else f", which is that of version {owner}"
        yield (
            f"The index of version {number}{whose} has {self.documents:,} documents of {self.dimension:,} dimensions;"
            f" {self.to_encode:,} are to be encoded."
        )
        yield (
            f"It takes {_bytes(self.table_bytes)} for the table and {_bytes(self.hnsw_bytes)} for the HNSW;"
            f" {_bytes(self.present_bytes)} are there already."
        )
        if self.fits is None:
            yield "How much room its disk has is not known, for Postgres is not the one in the state directory."
        elif self.fits:
            yield f"The disk of Postgres has {_bytes(self.free_bytes or 0)} left."
        else:
            yield (
                f"The disk of Postgres has only {_bytes(self.free_bytes or 0)} left, so `relevanced prepare {number}`"
                " refuses; `relevanced versions drop` removes the indexes of old versions."
            )
        if self.build_memory_needed_mb > self.build_memory_mb:
            yield (
                f"Building the HNSW takes {self.build_memory_needed_mb:,} MB of memory and would be many times slower"
                f" with the {self.build_memory_mb:,} of build_memory_mb; set that to {self.build_memory_needed_mb}"
                " under [index]."
            )
        how = "as builds of this dimension here took" if self.measured_hnsw else "as measured on another machine"
        yield (
            f"It will take about {_duration(self.encode_seconds)} to encode on {self.device}, by {PROBED} documents of"
            f" it, and {_duration(self.hnsw_seconds)} to build the HNSW, {how}."
        )
        if self.money is not None:
            yield f"At the prices of today that is {self.money:,.4g} {self.currency}."


def plan_index(
    database: Database,
    models: ModelStore,
    version: Version,
    policy: IndexPolicy,
    prices: PricesPolicy,
    free_bytes: int | None,
) -> Plan:
    """
    Work out what preparing a version would take; changes nothing.

    Raises: FailStep when the files of the model are not there, or not as they were.
    """
    owner = version if version.index_version_id is None else history.version(database, version.index_version_id)
    embeddings = Embeddings(owner.version_id, owner.version_id)
    present = history.index_sizes(database).get(owner.version_id)
    with database.connection() as connection:
        (row,) = connection.execute(sql.postgres["document_sizes"])
        built = embeddings.has_hnsw(connection)
        missing = row["documents"] if present is None else embeddings.count_missing(connection, None)
    size = index_size(row["documents"], owner.dimension, m=policy.m, id_bytes=row["id_bytes"])
    # An adapter's own files encode documents as its owner's do, and may be there when those are not.
    encoder = models.open(version.directory if version.model_dropped_at is None else owner.directory)
    encode_seconds = missing * _seconds_each(database, encoder) if missing else 0.0
    rate = _measured_rate(database, owner.dimension, row["documents"])
    assumed = (INSERTED_RATE if built else BUILT_RATE) * 384 / owner.dimension
    hnsw_seconds = missing / assumed if built else row["documents"] / (rate or assumed)
    spent = {"encoding": {encoder.device: encode_seconds}, "hnsw": {POSTGRES: hnsw_seconds}}
    return Plan(
        version_id=version.version_id,
        index_version_id=owner.version_id,
        documents=row["documents"],
        to_encode=missing,
        dimension=owner.dimension,
        table_bytes=size.table,
        hnsw_bytes=size.hnsw,
        present_bytes=present or 0,
        graph_bytes=0 if built else size.graph,
        build_memory_mb=policy.build_memory_mb,
        encode_seconds=encode_seconds,
        hnsw_seconds=hnsw_seconds,
        device=encoder.device,
        measured_hnsw=not built and rate is not None,
        free_bytes=free_bytes,
        money=money(spent, prices),
        currency=prices.currency,
    )


def _seconds_each(database: Database, encoder: Encoder) -> float:
    """Encode a few documents, and say how long each took."""
    with database.connection() as connection:
        rows = connection.execute(sql.postgres["probe_documents"], {"limit": PROBED}).fetchall()
    texts = [document_text(row["title"], row["text"]) for row in rows]
    encoder.encode_documents(texts[:WARMED])
    began = time.monotonic()
    encoder.encode_documents(texts)
    return (time.monotonic() - began) / max(1, len(texts))


def _measured_rate(database: Database, dimension: int, documents: int) -> float | None:
    """Vectors a second of building an HNSW of this dimension, if any was large enough to tell."""
    stored = history.index_sizes(database)
    spent = [
        float(version.manifest.get("cost", {}).get("hnsw", {}).get(POSTGRES, 0.0))
        for version in history.versions(database)
        if version.version_id in stored and version.dimension == dimension
    ]
    # Seconds add up where one was built several times, so that the least are the likeliest to be those of one build.
    seconds = min(filter(None, spent), default=None)
    return documents / seconds if seconds and documents >= ENOUGH_ROWS else None


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
