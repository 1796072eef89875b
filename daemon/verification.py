"""
Is an index what it should be?

In:  the table of a prepared version, the documents, its encoder. Out: a verdict with its numbers; promotion takes no
version without it. The checks come in the order of their cost, and the first that fails gives the sentence.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Annotated, Final

import numpy as np
from annotated_types import Ge, Interval

from relevanced.daemon.documents import document_text
from relevanced.daemon.embeddings import Connection, Embeddings
from relevanced.daemon.latency import median_ms
from relevanced.daemon.ports import Encoder, Vectors
from relevanced.daemon.records import Hit, Outcome

DEPTH = 10  # of recall@10, as a user sees it
_TIMES: Final = 16  # that each side answers, at least: of two or three queries the median is what else was going on
# Candidates of a search to choose from; time grows a little less than they do. pgvector's own default is the first.
EFFORTS: Final = (40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyPolicy:
    """When an index may answer."""

    # Documents encoded again, and queries asked twice: a fault in one of twenty is missed in one of 27 samples.
    sample: Annotated[int, Interval(ge=1, le=10_000)] = 64
    min_cosine: Annotated[float, Interval(ge=0, le=1)] = 0.999  # of two encodings; halfvec and bf16 cost below 0.0001
    min_recall: Annotated[float, Interval(ge=0, le=1)] = 0.98  # recall@10 against exact search, mean over queries
    # Times what live takes from a text to its answer, median of the same queries in turns. Twice, for a larger model is
    # slower by design; raise it before you train one.
    max_slowdown: Annotated[float, Ge(1)] = 2.0


def verify_index(
    connection: Connection,
    embeddings: Embeddings,
    encoder: Encoder,
    user_queries: Sequence[str],
    policy: VerifyPolicy,
    *,
    efforts: Sequence[int] = EFFORTS,
    live: tuple[Embeddings, Encoder] | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """
    Check counts and content hashes, vectors, plan, recall and latency.

    Args:
        embeddings: the table that the version searches.
        user_queries: texts to measure recall with; the sampled documents' titles when there are none.
        efforts: numbers of candidates to choose from; the first that finds enough is `ef_search` of the outcome.
        live: table and encoder of the version that it must not be much slower than; None: there is no other.
        now: gives seconds.
    """
    version_id = embeddings.version_id
    held = embeddings.compare_with_documents(connection)
    numbers: dict[str, float] = dict(held)
    if held["missing"] or held["gone"] or held["outdated"]:
        return _rejected(
            version_id,
            f"its index has {held['documents'] - held['missing']:,} of {held['documents']:,} documents, "
            f"{held['outdated']:,} of them outdated, and {held['gone']:,} that were deleted",
            numbers,
        )
    rows, stored = embeddings.sample(connection, policy.sample)
    if not rows:
        return _rejected(version_id, "there are no documents in its index", numbers)
    again = encoder.encode_documents([document_text(row["title"], row["text"]) for row in rows])
    numbers["min_cosine"] = cosine = float(np.min(np.sum(np.stack(stored) * again, axis=1)))
    if not cosine >= policy.min_cosine:
        return _rejected(
            version_id, f"a document encoded again has cosine {cosine:.4f} with its stored vector", numbers
        )
    step = -(-len(user_queries) // policy.sample)
    queries = list(user_queries[::step]) if user_queries else [row["title"] or row["text"] for row in rows]
    vectors = encoder.encode_queries(queries)
    if embeddings.hnsw not in embeddings.plan(connection, vectors[:1], DEPTH):
        return _rejected(version_id, "Postgres would answer a search without its HNSW index", numbers)
    embeddings, recall = _with_least_effort(connection, embeddings, vectors, efforts, policy.min_recall)
    numbers |= {"recall@10": recall, "ef_search": embeddings.ef_search}
    if not recall >= policy.min_recall:
        return _rejected(
            version_id,
            f"its HNSW finds {recall:.3f} of the exact top {DEPTH} among {embeddings.ef_search:,} candidates;"
            f" {policy.min_recall} is asked, and a larger `ef_construction` or `m` under [index] would find more",
            numbers,
        )
    if live:

        def answer(table: Embeddings, encode: Encoder, text: str) -> None:
            table.search(connection, encode.encode_queries([text]), DEPTH)

        sides = {"search_ms": partial(answer, embeddings, encoder), "live_search_ms": partial(answer, *live)}
        enough = list(islice(cycle(queries), max(len(queries), _TIMES)))
        numbers |= (taken := median_ms(sides, enough, now))
        if taken["search_ms"] > policy.max_slowdown * taken["live_search_ms"]:
            times = f"{taken['search_ms']:.1f} ms for a search, live {taken['live_search_ms']:.1f} ms"
            return _rejected(version_id, f"it takes {times}; {policy.max_slowdown:g} times is the most", numbers)
    sentence = (
        f"Verified version {version_id}: {held['documents']:,} documents, {len(rows)} of them encoded again alike; "
        f"recall@10 {recall:.3f} against exact search on {len(queries)} queries, among {embeddings.ef_search:,}"
        " candidates."
    )
    return Outcome(sentence, numbers, "accepted")


def _with_least_effort(
    connection: Connection, embeddings: Embeddings, vectors: Vectors, efforts: Sequence[int], min_recall: float
) -> tuple[Embeddings, float]:
    """Choose the fewest candidates whose recall is enough, or else the most."""
    exact = embeddings.search(connection, vectors, DEPTH, exact=True)
    recall = 0.0
    for effort in efforts:
        embeddings = Embeddings(embeddings.version_id, embeddings.index_id, effort)
        recall = _recall(embeddings.search(connection, vectors, DEPTH), exact)
        if recall >= min_recall:
            break
    return embeddings, recall


def _recall(found: Sequence[Sequence[Hit]], exact: Sequence[Sequence[Hit]]) -> float:
    return float(np.mean([_share_found(mine, best) for mine, best in zip(found, exact, strict=True) if best]))


def _share_found(found: Sequence[Hit], exact: Sequence[Hit]) -> float:
    """The share of the exact answer; by score, since documents with the same text may stand for one another."""
    last = exact[-1].score - 1e-6
    return sum(hit.score >= last for hit in found) / len(exact)


def _rejected(version_id: int, reason: str, numbers: dict[str, float]) -> Outcome:
    return Outcome(f"Rejected version {version_id}: {reason}.", numbers, "rejected")
