"""
The step gate: candidate against live on the held-out queries.

In:  cycles/<id>/holdout.parquet, the models and vectors of both versions. Out: a verdict with its interval, and slices.
Both arms are ranked exactly over the same documents. The candidate's vectors go into its own table at once, so that a
promotion does not encode them again.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon.documents import document_ids
from relevanced.daemon.errors import FailStep
from relevanced.daemon.gate import compare, with_unjudged
from relevanced.daemon.history import note_metrics, set_state, version
from relevanced.daemon.metrics import (
    condensed,
    judged_at_10,
    judged_documents,
    ndcg_at_10,
    qrels_from,
    query_weights,
)
from relevanced.daemon.ports import Encoder, Progress, Vectors
from relevanced.daemon.records import Cycle, Outcome
from relevanced.daemon.slices import Known, kinds_of, slices_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.tryout import gives_way, open_trial

DEPTH = 100  # of a run; NDCG@10 reads ten, the rest is for who looks closer
AT_ONCE = 256  # queries scored together, which bounds the memory at AT_ONCE x documents

Run = dict[str, dict[str, float]]


def gate(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """
    Compare by NDCG@10 on the held-out queries that have a judgment; nothing of them was in training.

    The verdict is on those held out by their hash. Those held out by time alone are measured beside it, in the slices:
    live may have been trained on them, when recent_days was less, and all of them would outnumber a share of the older.
    """
    held_out = pq.read_table(stages.files(cycle) / "holdout.parquet")
    qrels = qrels_from(held_out)
    texts = dict(zip(held_out["query_key"].to_pylist(), held_out["user_query"].to_pylist(), strict=True))
    queries = {key: texts[key] for key in qrels}
    live_id, candidate_id = stages.promotion.serving().live_version_id, cycle.candidate_version_id
    if live_id is None or candidate_id is None:
        raise FailStep("The gate needs a live version and a candidate; `relevanced status` shows which is missing.")
    pool = pool_of(stages, held_out)
    both = (candidate_id, live_id)
    runs = {version_id: exact_run(stages, version_id, queries, pool, progress) for version_id in both}
    weights = query_weights(held_out, stages.gate.max_query_weight)
    held_out_by = held_out_by_of(held_out)
    ndcg = {version_id: ndcg_at_10(qrels, runs[version_id]) for version_id in both}
    kinds = kinds_of(qrels, held_out_by, _known(stages, live_id))
    slices = slices_of(ndcg[candidate_id], ndcg[live_id], weights, kinds, stages.gate.confidence)

    by_hash = {query: grades for query, grades in qrels.items() if held_out_by[query] != "time"}
    ndcg = {version_id: {query: ndcg[version_id][query] for query in by_hash} for version_id in both}
    runs = {version_id: {query: runs[version_id][query] for query in by_hash} for version_id in both}
    judged = judged_documents(held_out)
    among_judged = {version_id: ndcg_at_10(by_hash, condensed(runs[version_id], judged)) for version_id in both}
    judged_at = judged_at_10(runs[candidate_id], judged), judged_at_10(runs[live_id], judged)

    names = {"candidate": candidate_id, "live": live_id}
    comparison = with_unjudged(
        compare(ndcg[candidate_id], ndcg[live_id], weights, stages.gate, **names),
        compare(among_judged[candidate_id], among_judged[live_id], weights, stages.gate, **names),
        judged_at,
        **names,
    )
    numbers = {
        "ndcg@10": weighted_mean(ndcg[candidate_id], weights),
        "live_ndcg@10": weighted_mean(ndcg[live_id], weights),
        **comparison.numbers(),
        "judged@10": judged_at[0],
        "live_judged@10": judged_at[1],
        "slices": slices,
    }
    note_metrics(stages.database, candidate_id, numbers)
    if comparison.verdict == "inconclusive" and stages.trial.share:
        running = open_trial(stages.database)
        if running is None or gives_way(stages, running):
            return Outcome(f"{comparison.sentence} People will tell, in a trial.", numbers, "trial")
    if comparison.verdict != "accepted":
        set_state(stages.database, candidate_id, "rejected")
    return Outcome(comparison.sentence, numbers, comparison.verdict)


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


def held_out_by_of(held_out: pa.Table) -> dict[str, str]:
    """What holds each query out; a file that was mined before there was another way says nothing of it."""
    keys = held_out["query_key"].to_pylist()
    if "held_out_by" not in held_out.column_names:
        return dict.fromkeys(keys, "hash")
    return dict(zip(keys, held_out["held_out_by"].to_pylist(), strict=True))


def _known(stages: Stages, live_id: int) -> Known | None:
    """What the cycle that trained live has left; a lost or broken file costs the slices and not the verdict."""
    cycle_id = version(stages.database, live_id).manifest.get("cycle_id")
    files = stages.directory / str(cycle_id)
    try:
        held_out = pq.read_table(files / "holdout.parquet", columns=["query_key"])
        triplets = pq.read_table(files / "triplets.parquet", columns=["query_key", "positive_id"])
    except (OSError, pa.ArrowException):
        return None
    query_keys = {*held_out["query_key"].to_pylist(), *triplets["query_key"].to_pylist()}
    return Known(query_keys=query_keys, positive_ids=set(triplets["positive_id"].to_pylist()))


def pool_of(stages: Stages, held_out: pa.Table) -> list[str] | None:
    """All documents while they are few; else the judged ones and a fixed sample, the same for both arms."""
    everything = document_ids(stages.database)
    if len(everything) <= stages.gate_documents:
        return None
    judged = set(held_out["document_id"].to_pylist())
    others = np.random.default_rng(0).permutation([name for name in everything if name not in judged])
    return sorted(judged) + list(others[: max(0, stages.gate_documents - len(judged))])


def weighted_mean(ndcg: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """The weighted mean over queries; None where nothing was asked."""
    return float(np.average(list(ndcg.values()), weights=[weights[query] for query in ndcg])) if ndcg else None
