"""
The table of one version's vectors: relevanced.embeddings_v<N>, with its HNSW.

In:  vectors of documents. Out: nearest documents. index and verification work through it, each call in its transaction.
The only place where a statement is made for a table: identifiers go in through psycopg.sql, values are bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg import sql as psycopg_sql
from psycopg.rows import DictRow

from relevanced import sql
from relevanced.daemon.ports import Vectors
from relevanced.daemon.records import Hit

Connection = psycopg.Connection[DictRow]

EF_SEARCH: Final = 100  # before verify has chosen; pgvector's own 40 loses recall


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document's vector, and the content it was made from."""

    document_id: str
    vector: Vectors
    content_sha: str


class Embeddings:
    """The statements of the table that one version searches: mostly its own, an adapter's that of another version."""

    def __init__(self, version_id: int, index_id: int, ef_search: int = EF_SEARCH) -> None:
        """
        Take the version, which its hits name, and the version whose table it is.

        Args:
            ef_search: candidates that a search by the HNSW looks at, at least; all of them are ranked, since several
                may be passages of one document.
        """
        self.version_id, self.index_id, self.ef_search = version_id, index_id, ef_search
        self.table, self.hnsw = f"relevanced.embeddings_v{index_id}", f"embeddings_v{index_id}_hnsw"
        self._names = {
            "table": psycopg_sql.Identifier("relevanced", f"embeddings_v{index_id}"),
            "index": psycopg_sql.Identifier(self.hnsw),
        }

    def create(self, connection: Connection, dimension: int) -> None:
        """Create the table unless it is there."""
        connection.execute(self._statement("create_embeddings", dimension=dimension))

    def drop(self, connection: Connection) -> None:
        """Drop the table with its HNSW, in one statement; it may be gone already."""
        connection.execute(self._statement("drop_embeddings"))

    def has_hnsw(self, connection: Connection) -> bool:
        """Whether the HNSW is built."""
        (row,) = connection.execute(sql.postgres["has_hnsw"], {"name": self.hnsw})
        return bool(row["built"])

    def build_hnsw(self, connection: Connection, *, m: int, ef_construction: int) -> None:
        """Build the index over the rows that are there, unless it is there."""
        connection.execute(self._statement("create_hnsw", m=m, ef_construction=ef_construction))
        connection.execute(self._statement("analyze_embeddings"))

    def count_missing(self, connection: Connection, document_ids: Sequence[str] | None) -> int:
        """Count the documents (None: of all) without a vector of their present content."""
        (row,) = connection.execute(self._statement("count_missing"), {"document_ids": document_ids})
        return int(row["missing"])

    def missing(
        self, connection: Connection, document_ids: Sequence[str] | None, after: str | None, limit: int
    ) -> list[DictRow]:
        """Read the next of them behind the key `after`: document_id, title, text, content_sha."""
        parameters = {"document_ids": document_ids, "after": after, "limit": limit}
        return connection.execute(self._statement("missing_documents"), parameters).fetchall()

    def write(self, connection: Connection, encoded: Sequence[Encoded]) -> None:
        """Add or replace vectors; one whose document has changed since it was read is left out."""
        connection.execute(sql.postgres["create_encoded"])
        with connection.cursor().copy(sql.postgres["copy_encoded"]) as copy:
            copy.set_types(["text", "halfvec", "text"])
            for row in encoded:
                copy.write_row((row.document_id, HalfVector(row.vector), row.content_sha))
        connection.execute(self._statement("merge_encoded"))

    def delete_gone(self, connection: Connection, document_ids: Sequence[str] | None) -> None:
        """Delete the vectors of documents (None: of all) that are no more."""
        connection.execute(self._statement("delete_gone"), {"document_ids": document_ids})

    def vectors(self, connection: Connection, document_ids: Sequence[str] | None) -> tuple[list[str], list[Vectors]]:
        """Read vectors, float32 (dimension,) each, with their documents, in the order of the key."""
        rows = connection.execute(self._statement("embeddings"), {"document_ids": document_ids}, binary=True).fetchall()
        return [row["document_id"] for row in rows], [_vector(row) for row in rows]

    def search(self, connection: Connection, vectors: Vectors, k: int, *, exact: bool = False) -> list[list[Hit]]:
        """
        Find the k nearest documents of each vector, by the HNSW, or exactly by reading all rows.

        Args:
            vectors: float32 (n, dimension), unit length.
        """
        ef_search = min(
            max(self.ef_search, 2 * k), 1000
        )  # 1000 is the most that pgvector takes; the scan goes on by itself
        if exact:
            connection.execute(sql.postgres["set_exact_search"])
        else:
            connection.execute(sql.postgres["set_search"], {"ef_search": str(ef_search)})
        rows = connection.execute(self._statement("search_embeddings"), _asked(vectors, k, max(ef_search, 2 * k)))
        found: list[list[Hit]] = [[] for _ in vectors]
        for row in rows:
            hits = found[row["place"] - 1]
            place = len(hits) + 1
            hits.append(Hit(place, row["document_id"], row["score"], row["title"], row["text"], self.version_id))
        return found

    def score(self, connection: Connection, vector: Vectors, document_ids: Sequence[str]) -> list[Hit]:
        """Score the documents that have a vector by one of float32 (dimension,), best first."""
        parameters = {"vector": HalfVector(vector), "document_ids": document_ids}
        rows = connection.execute(self._statement("score_embeddings"), parameters)
        return [Hit(place, version_id=self.version_id, **row) for place, row in enumerate(rows, start=1)]

    def prewarm(self, connection: Connection) -> None:
        """Have the server read the HNSW into its memory."""
        connection.execute(sql.postgres["prewarm_index"], {"index": f"relevanced.{self.hnsw}"})

    def plan(self, connection: Connection, vectors: Vectors, k: int) -> str:
        """Ask Postgres how it would answer such a search; JSON as text."""
        connection.execute(sql.postgres["set_search"], {"ef_search": str(self.ef_search)})
        explain = psycopg_sql.SQL("EXPLAIN (FORMAT JSON)\n") + self._statement("search_embeddings")
        (row,) = connection.execute(explain, _asked(vectors, k, self.ef_search))
        return str(row["QUERY PLAN"])

    def compare_with_documents(self, connection: Connection) -> dict[str, int]:
        """Count documents, and those that are missing, outdated or gone in this table."""
        (row,) = connection.execute(self._statement("compare_with_documents"), {"version_id": self.index_id})
        return row

    def sample(self, connection: Connection, limit: int) -> tuple[list[DictRow], list[Vectors]]:
        """Read some documents (document_id, title, text), always the same, and their vectors."""
        rows = connection.execute(self._statement("sample_embeddings"), {"limit": limit}, binary=True).fetchall()
        return rows, [_vector(row) for row in rows]

    def _statement(self, name: str, **literals: int) -> psycopg_sql.Composed:
        numbers = {key: psycopg_sql.Literal(value) for key, value in literals.items()}
        return psycopg_sql.SQL(sql.postgres[name]).format(**self._names, **numbers)


def _asked(vectors: Vectors, k: int, candidates: int) -> dict[str, Any]:
    return {"vectors": [HalfVector(vector) for vector in vectors], "k": k, "candidates": candidates}


def _vector(row: DictRow) -> Vectors:
    return np.asarray(row["embedding"].to_numpy(), dtype=np.float32)
