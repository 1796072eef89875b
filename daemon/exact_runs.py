"""
How a version ranks documents when no index stands between.

In:  the vectors of a version, the words of queries. Out: a run of each query, by inner product with every document of
the pool; the gate and compare measure it.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from relevanced.daemon.documents import document_ids
from relevanced.daemon.history import version
from relevanced.daemon.ports import Encoder, Progress, Vectors
from relevanced.daemon.stages import Stages

DEPTH = 100  # of a run; NDCG@10 reads ten, the rest is for who looks closer
AT_ONCE = 256  # queries scored together, which bounds the memory at AT_ONCE x documents

Run = dict[str, dict[str, float]]


def exact_run(
    stages: Stages, version_id: int, queries: Mapping[str, str], pool: Sequence[str] | None, progress: Progress
) -> Run:
    """Rank the pool (None: all documents) for each query by inner product, without an index between."""
    encoder = stages.models.open(version(stages.database, version_id).directory)
    stages.index.embed(version_id, encoder, pool, progress)
    names, vectors = stages.index.vectors(version_id, pool)
    return rank_exactly(encoder, queries, names, vectors)


def rank_exactly(encoder: Encoder, queries: Mapping[str, str], names: Sequence[str], vectors: Vectors) -> Run:
    """
    Rank documents for each query; a document that has several passages counts by its best.

    Args:
        names: document of each row of vectors, float32 (n, dimension).
    Returns: query -> document_id -> score, the best DEPTH.
    """
    if not names:
        return {key: {} for key in queries}
    run: Run = {}
    keys = list(queries)
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        scores = encoder.encode_queries([queries[key] for key in some]) @ vectors.T
        depth = min(DEPTH, len(names))
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for key, row, places in zip(some, scores, best, strict=True):
            ranked: dict[str, float] = {}
            for place in places[np.argsort(-row[places], kind="stable")]:
                ranked.setdefault(names[place], float(row[place]))
            run[key] = ranked
    return run


def pool_of(stages: Stages, judged: Collection[str]) -> list[str] | None:
    """
    All documents while they are few; else the judged ones and a fixed sample, the same for both arms.

    Args:
        judged: document_ids of which any query has a judgment.
    """
    everything = document_ids(stages.database)
    return None if len(everything) <= stages.gate_documents else pool_within(everything, judged, stages.gate_documents)


def pool_within(everything: Sequence[str], judged: Collection[str], most: int) -> list[str]:
    """Give the judged documents and a fixed sample of the rest, `most` in all; all of them while they are fewer."""
    if len(everything) <= most:
        return list(everything)
    known = set(judged)
    others = np.random.default_rng(0).permutation([name for name in everything if name not in known])
    return sorted(known) + list(others[: max(0, most - len(known))])
