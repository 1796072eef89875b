"""
The project's own way to an index, beside a bare binary COPY and CREATE INDEX in the same Postgres, same settings.

    python -m tests.bench.index [--passages 100000] [--rounds 3]

Vectors are given, so that no model's time is in it: 384 numbers of unit length which vary in 32 directions and a little
in all, as those of a model do; of vectors without such a structure no HNSW finds the nearest ones. Both sides begin
with the documents in their table. Ours is `prepare`: encoding (a lookup), rows, HNSW, catch-up. Both run in turn, and
the medians count. Recall@10 is of 200 other vectors against an exact search, with as many candidates as `verify` has
chosen by 200 more. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pgvector import HalfVector

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.embeddings import Embeddings
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.ports import Vectors, silent
from relevanced.daemon.records import Document

DIMENSION = 384
DIRECTIONS = 32
QUERIES = 200


class Given:
    """An encoder whose vectors are there already: a document's text is its place among them."""

    fingerprint = document_fingerprint = "given"
    dimension, device = DIMENSION, "cpu"

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._vectors[[int(text.partition(" ")[0]) for text in texts]]


def made(count: int) -> Vectors:
    """Unit vectors, float32 (count, 384); always the same."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(DIRECTIONS, DIMENSION)).astype(np.float32)
    vectors = rng.normal(size=(count, DIRECTIONS)).astype(np.float32) @ mix
    vectors += rng.normal(size=vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def bare(database: Database, policy: IndexPolicy, vectors: Vectors) -> None:
    """COPY the vectors into a table of nothing else but their keys, and index it."""
    memory, workers = f"{policy.build_memory_mb}MB", str(policy.build_workers)
    with database.connection() as connection:
        connection.execute("DROP TABLE IF EXISTS public.bare")
        connection.execute(f"CREATE TABLE public.bare (document_id text, embedding halfvec({DIMENSION}))")
    with (
        database.connection() as connection,
        connection.cursor().copy("COPY public.bare FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["text", "halfvec"])
        for place, vector in enumerate(vectors):
            copy.write_row((f"d{place:07}", HalfVector(vector)))
    with database.connection() as connection:
        connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", (memory,))
        connection.execute("SELECT set_config('max_parallel_maintenance_workers', %s, true)", (workers,))
        connection.execute(
            "CREATE INDEX ON public.bare USING hnsw (embedding halfvec_ip_ops)"
            f" WITH (m = {policy.m}, ef_construction = {policy.ef_construction})"
        )


def recall(database: Database, index: Index, version_id: int, queries: Vectors) -> float:
    """The share of the ten nearest that the index finds."""
    found = index.search(version_id, queries, 10)
    with database.connection() as connection:
        exact = Embeddings(version_id, version_id).search(connection, queries, 10, exact=True)
    pairs = zip(found, exact, strict=True)
    kept = [len({hit.document_id for hit in mine} & {hit.document_id for hit in all_}) for mine, all_ in pairs]
    return sum(kept) / (10 * len(queries))


def main() -> None:
    """Build by both ways in turn, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    given = made(asked.passages + 2 * QUERIES)
    vectors, queries = given[: asked.passages], given[-QUERIES:]
    to_verify = [f"{place} of the queries" for place in range(asked.passages, asked.passages + QUERIES)]
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(None, Path(folder))
        texts = (Document(f"d{place:07}", "", f"{place} of the passages") for place in range(asked.passages))
        load_documents(database, texts, silent)
        policy, encoder = IndexPolicy(), Given(given)
        index = Index(database, policy)
        for _ in range(asked.rounds):
            with database.connection() as connection:
                version_id = history.register_version(connection, None)
            history.complete_version(database, version_id, Path("/m"), encoder.fingerprint, DIMENSION, {})
            began = time.perf_counter()
            index.prepare(version_id, encoder, silent)
            seconds["ours"].append(time.perf_counter() - began)
            began = time.perf_counter()
            bare(database, policy, vectors)
            seconds["bare"].append(time.perf_counter() - began)
            print({name: round(times[-1], 2) for name, times in seconds.items()}, flush=True)  # noqa: T201
        verified = index.verify(version_id, encoder, to_verify)
        print(verified.sentence, flush=True)  # noqa: T201
        found = recall(database, index, version_id, queries)
        database.close()
    ours, theirs = median(seconds["ours"]), median(seconds["bare"])
    line = {
        "bench": "index",
        "passages": asked.passages,
        "ours_s": round(ours, 2),
        "bare_s": round(theirs, 2),
        "ratio": round(theirs / ours, 2),
        "recall_at_10": round(found, 4),
        "ef_search": verified.numbers["ef_search"],
    }
    print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
