"""
Vectors for the documents of one version's table: read | encode | write, at the same time.

In:  documents without a vector of their present content, an encoder. Out: rows of the table, chunk by chunk; index
works through it. While a chunk is encoded, a thread writes the one before and another reads the next: Postgres and
encoder each go at their own speed. A chunk that is encoded is written, also when the work is interrupted; a kill costs
two at most.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from psycopg.rows import DictRow

from relevanced.daemon.database import Database
from relevanced.daemon.documents import document_text
from relevanced.daemon.embeddings import Embeddings, Encoded
from relevanced.daemon.errors import FailStep
from relevanced.daemon.ports import Encoder, Progress, Vectors

# A chunk that takes less than this, in seconds, is too small to be worth a transaction: the next has twice as many.
_WORTH_IT: Final = 1.0
_MOST: Final = 8192  # documents of a chunk


def fill(
    database: Database,
    embeddings: Embeddings,
    encoder: Encoder,
    document_ids: Sequence[str] | None,
    chunk: int,
    progress: Progress,
) -> tuple[int, float]:
    """
    Encode the documents (None: all) whose present content has no vector yet, and delete the vectors of those gone.

    Args:
        chunk: documents that are encoded and committed at a time, at first.

    Returns: how many were encoded, and the seconds of the encoder alone.
    Raises: FailStep when the encoder gives no unit vectors.
    """
    label = f"Encoding documents for version {embeddings.version_id}"

    def read(after: str | None, limit: int) -> list[DictRow]:
        with database.connection() as connection:
            return embeddings.missing(connection, document_ids, after, limit)

    def write(rows: Sequence[DictRow], vectors: Vectors) -> None:
        encoded = [
            Encoded(row["document_id"], vector, row["content_sha"]) for row, vector in zip(rows, vectors, strict=True)
        ]
        with database.connection() as connection:
            embeddings.write(connection, encoded)

    with database.connection() as connection:
        total = embeddings.count_missing(connection, document_ids)
    done, seconds, written = 0, 0.0, Future[None]()
    written.set_result(None)
    with ThreadPoolExecutor(2, "backfill") as threads:
        rows = read(None, chunk)
        while rows:
            coming = threads.submit(read, rows[-1]["document_id"], chunk)
            began = time.monotonic()
            vectors = _encode(encoder, rows, embeddings.version_id)
            took = time.monotonic() - began
            written.result()
            written = threads.submit(write, rows, vectors)
            done, seconds = done + len(rows), seconds + took
            if took < _WORTH_IT:
                chunk = min(2 * chunk, max(chunk, _MOST))
            progress(label, done, max(total, done))
            rows = coming.result()
        written.result()
    with database.connection() as connection:
        embeddings.delete_gone(connection, document_ids)
    return done, seconds


def _encode(encoder: Encoder, rows: Sequence[DictRow], version_id: int) -> Vectors:
    vectors = encoder.encode_documents([document_text(row["title"], row["text"]) for row in rows])
    # The inner product ranks as the cosine does for unit vectors only; a NaN fails this comparison too.
    if not np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 0.01):
        raise FailStep(
            f"The model of version {version_id} gives vectors that are not of unit length; its files are broken."
        )
    return vectors
