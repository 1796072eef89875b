"""
How the models rank the documents of the queries in the log.

In:  the versions with their indexes, the documents' words, the texts of the queries. Out: the live version's RUN, in
which triplets find near misses, and the RANKS that the click model's prior goes by.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from relevanced.daemon.documents import full_text_search
from relevanced.daemon.errors import Retry
from relevanced.daemon.history import base_version, cycles, kept_versions, version
from relevanced.daemon.pairs import RANKS, pool_words, prior_ranks
from relevanced.daemon.ports import Progress
from relevanced.daemon.stages import Stages

RUN_DEPTH = 50  # deeper ranks hold few relevant documents and few near misses
AT_ONCE = 512  # queries between two signs of progress
WORDS_MS = 100  # for each query that full-text search may take; it takes 3 on 5,000 documents

log = structlog.get_logger(__name__)


def runs_of_models(
    stages: Stages, live: int, anchors: Mapping[str, str], progress: Progress
) -> tuple[pa.Table, pa.Table]:
    """Give the RUN of the live version and the RANKS for the prior, for each query_key of the anchors."""
    base = base_version(stages.database).version_id
    base_run = run_of(stages, base, anchors, progress)
    live_run = base_run if live == base else run_of(stages, live, anchors, progress)
    newest, taught = _newest_candidate(stages, live)
    newest_run = live_run if newest == live else run_of(stages, newest, anchors, progress)
    ranks = prior_ranks(base_run, live_run, newest_run, taught)
    return live_run, pool_words(ranks, _ranks_by_words(stages, anchors, progress))


def run_of(stages: Stages, version_id: int, anchors: Mapping[str, str], progress: Progress) -> pa.Table:
    """
    Rank the documents of each query by one version, through its index.

    Args:
        anchors: query_key -> the query's text.
    Returns: query_key, document_id, score float32, rank int32 from 1; RUN_DEPTH rows a query, best first.
    """
    encoder = stages.models.open(version(stages.database, version_id).directory)
    keys = list(anchors)
    rows: list[tuple[str, str, float, int]] = []
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        answers = stages.index.search(version_id, encoder.encode_queries([anchors[key] for key in some]), RUN_DEPTH)
        rows += [
            (key, hit.document_id, hit.score, hit.position)
            for key, hits in zip(some, answers, strict=True)
            for hit in hits
        ]
        progress(f"Ranking by version {version_id}", start + len(some), len(keys))
    return _run_table(rows)


def ranked_by_words(
    stages: Stages, texts: Mapping[str, str], depth: int, patience_ms: int, progress: Progress
) -> dict[str, list[str]]:
    """
    Rank by full-text search: key -> document_ids, best first, of each key whose words are found.

    Args:
        texts: key -> words; keys of the same words are alike.
        depth: of each ranking. patience_ms: for each text.
    Raises: Retry when it takes longer, as a very large collection may.
    """
    keys = list(texts)
    found: dict[str, list[str]] = {}
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        distinct = list(dict.fromkeys(texts[key] for key in some))
        by_text = full_text_search(stages.database, distinct, depth, patience_ms)
        found |= {key: by_text[texts[key]] for key in some}
        progress("Ranking by words", start + len(some), len(keys))
    return found


def _ranks_by_words(stages: Stages, anchors: Mapping[str, str], progress: Progress) -> pa.Table:
    """Give the RANKS of full-text search; none where it takes too long, for then the models' have to do."""
    try:
        found = ranked_by_words(stages, anchors, RUN_DEPTH, WORDS_MS, progress)
    except Retry as error:
        log.warning("Full-text search takes too long for the prior; it goes by the models alone.", error=str(error))
        found = {}
    rows = [(key, name, rank) for key, names in found.items() for rank, name in enumerate(names, start=1)]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.string(), pa.int32())
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(RANKS, columns, types, strict=True)})


def _run_table(rows: Sequence[tuple[str, str, float, int]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = {"query_key": pa.string(), "document_id": pa.string(), "score": pa.float32(), "rank": pa.int32()}
    return pa.table({name: pa.array(column, kind) for (name, kind), column in zip(types.items(), columns, strict=True)})


def _newest_candidate(stages: Stages, live: int) -> tuple[int, set[str]]:
    """
    Give the newest version that a cycle has trained and indexed, and the query_keys that it was taught.

    It is live where there is none, and taught nothing where what it was taught is gone.
    """
    indexed = {version.version_id for version in kept_versions(stages.database)}
    for row in cycles(stages.database):
        triplets = stages.directory / str(row["cycle_id"]) / "triplets.parquet"
        if row["candidate_version_id"] in indexed and triplets.exists():
            keys = pq.read_table(triplets, columns=["query_key"])["query_key"]
            return row["candidate_version_id"], set(keys.to_pylist())
    return live, set()
