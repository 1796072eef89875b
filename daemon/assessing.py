"""
Is fine-tuning worth it yet? Ways to rank, side by side on judged queries.

In:  judged queries, the documents, the live model; what a cycle has mined, or pairs that are known to be right.
Out: an Assessment; told by the command assess. Nothing of it is kept.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from relevanced.daemon import history
from relevanced.daemon.arms import encode_in_memory
from relevanced.daemon.asked import reranking_of
from relevanced.daemon.assessment import (
    CONTEXTUAL,
    FULL_TEXT,
    HYBRID,
    LIVE,
    RERANKED,
    Assessment,
    Reindex,
    Way,
)
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.documents import document_ids, document_texts, full_text_search
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exact_runs import DEPTH, Run, exact_run, pool_of, rank_exactly
from relevanced.daemon.fusion import fuse
from relevanced.daemon.gate import paired_interval
from relevanced.daemon.metrics import ndcg_at_10, weighted_mean
from relevanced.daemon.ports import Encoder, Progress
from relevanced.daemon.stages import Stages
from relevanced.daemon.teaching import taught

SURE: Final = 0.95  # of the intervals
SHARES: Final = (0.25, 0.5, 1.0)  # of the triplets, for the learning curve
_PROBE: Final = 256  # documents encoded to tell how long all take
_AT_ONCE: Final = 64  # queries of one full-text search
_PATIENCE_MS: Final = 1000  # for each, of full-text search


class Assessor:
    """Ranks the judged queries in one way after another."""

    def __init__(self, stages: Stages, judged: JudgedQueries, progress: Progress) -> None:
        """
        Take the parts.

        Raises: BadInput before there is a live version.
        """
        live_id = stages.promotion.serving().live_version_id
        if live_id is None:
            raise BadInput("No version is live yet; `relevanced documents load FILE` makes the first.")
        self._stages, self._judged, self._progress = stages, judged, progress
        self._live = history.version(stages.database, live_id)
        self._texts = {query: judged.texts[query] for query in judged.qrels}
        pool = pool_of(stages, judged.documents)
        self._pool = document_ids(stages.database) if pool is None else pool
        self._live_run = exact_run(stages, live_id, self._texts, pool, progress)
        self._live_ndcg = ndcg_at_10(judged.qrels, self._live_run)

    def ways(self, contexts: Mapping[str, str] | None, references: Sequence[tuple[str, Encoder]]) -> dict[str, Way]:
        """
        Measure each way that there is.

        Args:
            contexts: document_id -> words to put before its own; None: that is not tried.
            references: models beside, by their names.
        """
        words = self._full_text()
        ways = {
            FULL_TEXT: self._way(words),
            LIVE: self._way(self._live_run),
            HYBRID: self._way(fuse([self._live_run, words])),
        }
        reranking = reranking_of(self._stages)
        if reranking:
            ways[RERANKED] = self._way(reranking.rerank(self._texts, self._live_run, self._progress))
        if contexts is not None:
            ways[CONTEXTUAL] = self._way(self._run(self._encoder(), "live, with contexts", contexts))
        for name, encoder in references:
            ways[name] = self._way(self._run(encoder, name))
        return ways

    def curve(self, triplets: pa.Table, most: int) -> list[tuple[int, Way]]:
        """
        Teach the base model a share of the triplets after another, and measure each time.

        Args:
            triplets: as training reads them.
            most: how many are taught at most, drawn at random.
        """
        if not len(triplets):
            return []
        order = np.random.default_rng(0).permutation(len(triplets))[:most]
        points = []
        for share in SHARES:
            some = triplets.take(np.sort(order[: max(2, round(share * len(order)))]))
            with tempfile.TemporaryDirectory(prefix="relevanced-assess-") as folder:
                encoder = taught(self._stages, some, Path(folder), self._progress)
                points.append((len(some), self._way(self._run(encoder, f"what {len(some):,} pairs taught"))))
        return points

    def reindex(self) -> Reindex:
        """Encode some documents, and tell what all would take."""
        names = self._pool[:: max(1, len(self._pool) // _PROBE)][:_PROBE]
        texts = list(document_texts(self._stages.database, names).values())
        encoder = self._encoder()
        began = time.perf_counter()
        encoder.encode_documents(texts)
        each = (time.perf_counter() - began) / max(len(texts), 1)
        count = len(document_ids(self._stages.database))
        return Reindex(count, each * count, 2 * encoder.dimension * count / 1e6)  # halfvec takes 2 bytes a dimension

    def _encoder(self) -> Encoder:
        return self._stages.models.open(self._live.directory)

    def _run(self, encoder: Encoder, name: str, contexts: Mapping[str, str] | None = None) -> Run:
        names, vectors = encode_in_memory(self._stages, name, encoder, self._pool, self._progress, contexts)
        return rank_exactly(encoder, self._texts, names, vectors)

    def _full_text(self) -> Run:
        allowed, run = set(self._pool), {}
        keys = list(self._texts)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            texts = list(dict.fromkeys(self._texts[key] for key in some))
            found = full_text_search(self._stages.database, texts, DEPTH, _PATIENCE_MS)
            for key in some:
                names = [name for name in found[self._texts[key]] if name in allowed]
                run[key] = {name: 1 / rank for rank, name in enumerate(names, start=1)}
            self._progress("Searching by words", min(start + _AT_ONCE, len(keys)), len(keys))
        return run

    def _way(self, run: Run) -> Way:
        ndcg = ndcg_at_10(self._judged.qrels, run)
        difference, low, high = paired_interval(ndcg, self._live_ndcg, self._judged.weights, SURE)
        return Way(weighted_mean(ndcg, self._judged.weights) or 0.0, difference, low, high)


def assess(
    stages: Stages,
    judged: JudgedQueries,
    *,
    contexts: Mapping[str, str] | None,
    references: Sequence[tuple[str, Encoder]],
    triplets: pa.Table | None,
    most_pairs: int,
    progress: Progress,
) -> Assessment:
    """
    Measure all there is to measure.

    Args:
        triplets: to teach; None: no learning curve.
        most_pairs: of them at most.
    Raises: BadInput before there is a live version, or when a reranker cannot be opened; Retry where an endpoint or
        full-text search takes too long.
    """
    assessor = Assessor(stages, judged, progress)
    reindex = assessor.reindex()
    ways = assessor.ways(contexts, references)
    curve = assessor.curve(triplets, most_pairs) if triplets is not None else []
    remarks = list(judged.remarks)
    if triplets is not None and len(triplets) > most_pairs:
        remarks.append(f"Of {len(triplets):,} pairs {most_pairs:,} were taught at most; --pairs takes more.")
    return Assessment(
        queries=len(judged.qrels),
        source=judged.source,
        ways=ways,
        curve=curve,
        reindex=reindex,
        remarks=remarks,
    )
