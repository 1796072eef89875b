"""
The blue-green index: the vectors of each version, beside one another.

In:  documents, an encoder, the outbox. Out: a complete table per version, and the nearest documents of a query vector.
prepare fills and indexes, catch_up follows the documents, verify decides whether promotion may have it, search answers.
A version that only turns the vectors of the queries has no table: all of this is done to the one that it searches, and
its owner's place in the outbox is the place of both.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import psycopg
from annotated_types import Interval

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.backfill import fill
from relevanced.daemon.cost import POSTGRES
from relevanced.daemon.database import Database
from relevanced.daemon.embeddings import EF_SEARCH, Connection, Embeddings
from relevanced.daemon.errors import BadInput, FailStep, Retry
from relevanced.daemon.hnsw import build
from relevanced.daemon.lease import leased
from relevanced.daemon.ports import Encoder, Progress, Vectors, silent
from relevanced.daemon.records import Hit, Outcome, Version
from relevanced.daemon.sizing import index_size
from relevanced.daemon.verification import EFFORTS, VerifyPolicy, verify_index

LEASE_SECONDS = 30  # a preparation that is gone for longer may be begun by another; renewed at a third of it
MOST_DIMENSIONS = 4000  # that pgvector's HNSW takes of a halfvec
_REMEMBERED = 60.0  # seconds for which another process's verify may go unnoticed


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPolicy:
    """How an index is built and searched."""

    # Documents encoded and committed at a time, enough for length-sorted batches to pad little; more at a time where
    # that takes under a second.
    chunk: Annotated[int, Interval(ge=1, le=10_000)] = 512
    m: Annotated[int, Interval(ge=2, le=100)] = 16  # neighbours of a node; pgvector's default
    ef_construction: Annotated[int, Interval(ge=4, le=1000)] = 64  # candidates while building; pgvector's default
    # Candidates of a search; none: verify chooses for each version the fewest that find what `min_recall` asks.
    ef_search: Annotated[int, Interval(ge=10, le=1000)] | None = None
    build_memory_mb: Annotated[int, Interval(ge=1)] = 256  # MB; the graph of about 200,000 vectors of 384 fits
    build_workers: Annotated[int, Interval(ge=0, le=64)] = 1  # processes that help; the others are for serving
    verify: VerifyPolicy = field(default_factory=VerifyPolicy)


class Index:
    """The tables of all versions. Every verb may be repeated, and goes on where a killed one stopped."""

    def __init__(
        self, database: Database, policy: IndexPolicy, free_bytes: Callable[[], int | None] = lambda: None
    ) -> None:
        """Take what says how much room the disk of Postgres has; None: it is on another machine, and nobody knows."""
        self._database = database
        self._policy = policy
        self.free_bytes = free_bytes
        self._tables: dict[int, tuple[float, Embeddings]] = {}  # version -> when it was looked up, and what was found

    def embed(self, version_id: int, encoder: Encoder, document_ids: Sequence[str] | None, progress: Progress) -> int:
        """
        Encode the documents (None: all) whose present content has no vector yet; return how many.

        Vectors of those that are no more go: a version that does not follow the documents would still rank them. Each
        chunk is committed, so nothing is ever encoded twice. What encoding took is part of what the version costs.

        Raises: FailStep when the encoder is not the version's, or gives no unit vectors.
        """
        embeddings = self._open(version_id, encoder)
        done, seconds = fill(self._database, embeddings, encoder, document_ids, self._policy.chunk, progress)
        if done:
            history.add_cost(self._database, embeddings.index_id, "encoding", encoder.device, seconds)
        return done

    def prepare(self, version_id: int, encoder: Encoder, progress: Progress) -> Outcome:
        """
        Build the complete index of a version: backfill, HNSW, catch-up.

        Raises: FailStep when there are no documents, the encoder does not fit, or the disk cannot hold the index;
            Retry while another process prepares it, or drops its index.
        """
        busy = Retry(f"Another process is at the index of version {version_id}; let it finish.")
        with leased(self._database, f"index {version_id}", seconds=LEASE_SECONDS, busy=busy):
            return self._prepare(version_id, encoder, progress)

    def _prepare(self, version_id: int, encoder: Encoder, progress: Progress) -> Outcome:
        self._require_room(history.version(self._database, version_id))
        embeddings = self._open(version_id, encoder)
        with self._database.connection() as connection:
            (row,) = connection.execute(sql.postgres["count_documents"])
        if not row["documents"]:
            raise FailStep("There are no documents to index; `relevanced documents load FILE` brings some.")
        if embeddings.index_id != version_id:
            return self._share(embeddings, encoder, row["documents"])
        with self._database.connection() as connection:
            connection.execute(sql.postgres["begin_backfill"], {"version_id": version_id})
        began = time.monotonic()
        encoded = self.embed(version_id, encoder, None, progress)
        history.add_cost(self._database, version_id, "backfill", encoder.device, time.monotonic() - began)
        began = time.monotonic()
        policy = self._policy
        remark = build(
            self._database,
            embeddings,
            progress,
            m=policy.m,
            ef_construction=policy.ef_construction,
            memory_mb=policy.build_memory_mb,
            workers=policy.build_workers,
        )
        history.add_cost(self._database, version_id, "hnsw", POSTGRES, time.monotonic() - began)
        self.catch_up(version_id, encoder)
        if history.version(self._database, version_id).state == "candidate":
            history.set_state(self._database, version_id, "prepared")
        sentence = f"Prepared version {version_id}: {row['documents']:,} documents, {encoded:,} of them encoded now."
        return Outcome(f"{sentence}{remark}", {**row, "encoded": encoded})

    def _share(self, embeddings: Embeddings, encoder: Encoder, documents: int) -> Outcome:
        """Prepare a version that searches the index of another one."""
        version_id, index_id = embeddings.version_id, embeddings.index_id
        with self._database.connection() as connection:
            readers = {"version_id": version_id, "index_id": index_id}
            (row,) = connection.execute(sql.postgres["other_readers"], readers)
        state = history.version(self._database, version_id).state
        if state in ("rejected", "retired") and not row["readers"]:
            raise BadInput(
                f"Version {version_id} searches the index of version {index_id}, which no longer follows the documents;"
                f" `relevanced prepare {index_id}` first."
            )
        if state in ("candidate", "rejected", "retired"):
            history.set_state(self._database, version_id, "prepared")
        self.catch_up(version_id, encoder)
        sentence = (
            f"Prepared version {version_id}: it searches the index of version {index_id}, with {documents:,} documents;"
            " nothing was encoded or built for it."
        )
        return Outcome(sentence, {"documents": documents, "encoded": 0})

    def catch_up(self, version_id: int, encoder: Encoder) -> int:
        """
        Apply the changes of documents since the last time; return how many documents were changed or deleted.

        Changes behind a transaction that is still open wait for the next time.
        """
        embeddings = self._open(version_id, encoder)
        index_id = embeddings.index_id
        changed: set[str] = set()
        while True:
            with self._database.connection() as connection:
                parameters = {"version_id": index_id, "limit": self._policy.chunk}
                changes = connection.execute(sql.postgres["outbox_changes"], parameters).fetchall()
            if not changes:
                return len(changed)
            document_ids = sorted({change["document_id"] for change in changes})
            # What following takes is no cost of the version.
            fill(self._database, embeddings, encoder, document_ids, self._policy.chunk, silent)
            with self._database.connection() as connection:
                connection.execute(sql.postgres["advance_outbox"], {**changes[-1], "version_id": index_id})
            with self._database.connection() as connection:
                connection.execute(sql.postgres["trim_outbox"])
            changed.update(document_ids)

    def is_behind(self, version_id: int) -> bool:
        """Whether a document has changed since this version caught up."""
        with self._database.connection() as connection:
            parameters = {"version_id": self._embeddings(connection, version_id).index_id, "limit": 1}
            return connection.execute(sql.postgres["outbox_changes"], parameters).fetchone() is not None

    def verify(
        self, version_id: int, encoder: Encoder, user_queries: Sequence[str], live: tuple[int, Encoder] | None = None
    ) -> Outcome:
        """
        Decide whether the index is complete, true to the documents and the model, and fast; see verification.

        Accepted makes the version `verified`, as promotion asks; rejected makes it `rejected`, unless it is live.

        Args:
            live: version and encoder that it must not be much slower than.

        Raises: BadInput when the version was not prepared.
        """
        version = history.version(self._database, version_id)
        if version.state not in ("prepared", "verified"):
            raise BadInput(
                f"Version {version_id} is {version.state} and has no complete index; "
                f"`relevanced prepare {version_id}` builds it."
            )
        self.catch_up(version_id, encoder)
        with self._database.connection() as connection:
            # HNSW and exact search are compared; documents may be followed meanwhile.
            connection.execute(sql.postgres["see_one_moment"])
            outcome = verify_index(
                connection,
                self._embeddings(connection, version_id),
                encoder,
                user_queries,
                self._policy.verify,
                efforts=EFFORTS if self._policy.ef_search is None else (self._policy.ef_search,),
                live=live and (self._embeddings(connection, live[0]), live[1]),
            )
        if outcome.verdict == "accepted":
            chosen = None if self._policy.ef_search else outcome.numbers["ef_search"]
            with self._database.connection() as connection:
                connection.execute(sql.postgres["accept_version"], {"version_id": version_id, "ef_search": chosen})
        self._tables.pop(version_id, None)
        if outcome.verdict == "rejected":
            history.set_state(self._database, version_id, "rejected")
        return outcome

    def vectors(self, version_id: int, document_ids: Sequence[str] | None) -> tuple[list[str], Vectors]:
        """Read the vectors of documents (None: of all): their documents, and float32 (n, dimension)."""
        with self._reading(version_id) as connection:
            names, vectors = self._embeddings(connection, version_id).vectors(connection, document_ids)
        dimension = history.version(self._database, version_id).dimension
        return names, np.stack(vectors) if vectors else np.empty((0, dimension), dtype=np.float32)

    def search(self, version_id: int, vectors: Vectors, k: int) -> list[list[Hit]]:
        """
        Find the k nearest documents of each query vector, best first, all in one statement.

        Args:
            vectors: float32 (n, dimension), unit length, made by the model of this version.
        """
        if not len(vectors):
            return []
        with self._reading(version_id) as connection:
            return self._embeddings(connection, version_id).search(connection, vectors, k)

    def warm(self, version_id: int) -> None:
        """Have the server read a version's index into its memory, where it has the means: pg_prewarm."""
        with self._reading(version_id) as connection:
            (row,) = connection.execute(sql.postgres["has_prewarm"])
            if row["has_prewarm"]:
                self._embeddings(connection, version_id).prewarm(connection)

    def score(self, version_id: int, vector: Vectors, document_ids: Sequence[str]) -> list[Hit]:
        """
        Score some documents by a query vector, best first; one that has no vector, or is no more, is left out.

        Args:
            vector: float32 (dimension,), unit length, made by the model of this version.
        """
        if not document_ids:
            return []
        with self._reading(version_id) as connection:
            return self._embeddings(connection, version_id).score(connection, vector, document_ids)

    def _require_room(self, version: Version) -> None:
        """Refuse to begin what would fill the disk of Postgres, which stops more than this build."""
        free = self.free_bytes()
        if free is None or version.index_version_id is not None:
            return
        with self._database.connection() as connection:
            (row,) = connection.execute(sql.postgres["document_sizes"])
        size = index_size(row["documents"], version.dimension, m=self._policy.m, id_bytes=row["id_bytes"])
        wanted = size.disk - history.index_sizes(self._database).get(version.version_id, 0)
        if wanted > free:
            raise FailStep(
                f"The index of version {version.version_id} takes about {wanted / 1e6:,.0f} MB more, and the disk of"
                f" Postgres has {free / 1e6:,.0f} MB left; `relevanced versions drop` removes indexes of old versions."
            )

    @contextmanager
    def _reading(self, version_id: int) -> Iterator[Connection]:
        try:
            with self._database.connection() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            raise BadInput(
                f"Version {version_id} has no index yet; `relevanced prepare {version_id}` builds it."
            ) from error

    def _open(self, version_id: int, encoder: Encoder) -> Embeddings:
        """Give the version's table, its own created when it is not there, once the encoder is known to fit."""
        version = history.version(self._database, version_id)
        _require_same_space(version, encoder)
        embeddings = Embeddings(version_id, version.index_id)
        if version.index_version_id is None:
            with self._database.connection() as connection:
                embeddings.create(connection, version.dimension)
        else:
            _require_same_documents(history.version(self._database, version.index_version_id), encoder, version_id)
        return embeddings

    def _embeddings(self, connection: Connection, version_id: int) -> Embeddings:
        """Give the table that a version searches."""
        looked_up, embeddings = self._tables.get(version_id, (-math.inf, None))
        if embeddings is None or time.monotonic() - looked_up > _REMEMBERED:
            row = connection.execute(sql.postgres["index_of_version"], {"version_id": version_id}).fetchone()
            if row is None:  # its table is not there either, and who reads it says so
                return Embeddings(version_id, version_id)
            effort = self._policy.ef_search or row["ef_search"] or EF_SEARCH
            embeddings = Embeddings(version_id, row["index_id"], effort)
            self._tables[version_id] = (time.monotonic(), embeddings)
        return embeddings


def _require_same_space(version: Version, encoder: Encoder) -> None:
    if encoder.fingerprint != version.fingerprint:
        raise FailStep(
            f"The model given for version {version.version_id} is not the one that it was registered with; its vectors "
            "would be mixed with another model's."
        )
    if version.dimension > MOST_DIMENSIONS:
        raise FailStep(
            f"Version {version.version_id} has vectors of {version.dimension:,} dimensions; {MOST_DIMENSIONS:,} is the "
            "most that pgvector can index."
        )


def _require_same_documents(owner: Version, encoder: Encoder, version_id: int) -> None:
    if encoder.document_fingerprint != owner.fingerprint:
        raise FailStep(
            f"Version {version_id} searches the index of version {owner.version_id}, and its model does not encode"
            " documents as that one does; their vectors would be mixed."
        )
