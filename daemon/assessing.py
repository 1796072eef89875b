"""
Is fine-tuning worth it yet? Ways to rank, side by side on judged queries.

In:  judged queries, the documents, the live model; what a cycle has mined, or pairs that are known to be right.
Out: an Assessment; told by the command assess. Nothing of it is kept.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import psutil
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
from relevanced.daemon.documents import document_ids, document_texts
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.exact_runs import DEPTH, Run, exact_run, pool_of, rank_exactly
from relevanced.daemon.fusion import fuse
from relevanced.daemon.gate import paired_interval
from relevanced.daemon.metrics import ndcg_at_10, weighted_mean
from relevanced.daemon.ports import Encoder, Progress
from relevanced.daemon.runs import ranked_by_words
from relevanced.daemon.stages import Stages
from relevanced.daemon.teaching import taught

SURE: Final = 0.95  # of the intervals
SHARES: Final = (0.25, 0.5, 1.0)  # of the triplets, for the learning curve
_PROBE: Final = 256  # documents encoded to tell how long all take
_PATIENCE_MS: Final = 1000  # for each, of full-text search


class Assessor:
    """Ranks the judged queries in one way after another."""

    def __init__(
        self, stages: Stages, judged: JudgedQueries, contexts: Mapping[str, str] | None, progress: Progress
    ) -> None:
        """
        Take the parts.

        Args:
            contexts: document_id -> words to put before its own; None: that is not tried.
        Raises: BadInput before there is a live version, for contexts of other documents alone, and where the reranker
            cannot be opened.
        """
        live_id = stages.promotion.serving().live_version_id
        if live_id is None:
            raise BadInput("No version is live yet; `relevanced documents load FILE` makes the first.")
        self.remarks = list(judged.remarks)  # what is to be heeded
        self.rerank_seconds: float | None = None  # for each query
        self._stages, self._judged, self._contexts, self._progress = stages, judged, contexts, progress
        self._live = history.version(stages.database, live_id)
        self._texts = {query: judged.texts[query] for query in judged.qrels}
        self._all_documents = document_ids(stages.database)
        self._pool = pool_of(stages, judged.documents)
        self._reranking = reranking_of(stages)
        if contexts is not None:
            self._look_at(contexts)

    def ways(self, references: Sequence[tuple[str, Encoder]]) -> dict[str, Way]:
        """
        Measure each way that needs no training against live.

        Args:
            references: models beside, by their names; as they may be elsewhere, they hear of no query whose words are
                not to be shown.
        """
        live = self._live_run
        ways = {} if self._words is None else {FULL_TEXT: self._way(self._words, live)}
        ways[LIVE] = self._way(live, live)
        ways |= {name: self._way(run, live) for name, run in self._live_stacked.items()}
        told = {query: text for query, text in self._texts.items() if query in self._judged.shown}
        if references and len(told) < len(self._texts):
            few = f"{len(told):,} of the {len(self._texts):,} queries were typed by enough people to be told"
            self.remarks.append(f"{few} to another model; its figures are of those.")
        for name, encoder in references if told else ():
            ways[name] = self._way(self._run(encoder, name, told), live, told)
        return ways

    def curve(self, triplets: pa.Table, most: int) -> tuple[list[tuple[int, Way]], Way | None, dict[str, Way]]:
        """
        Teach the base model a share of the triplets after another, and measure each time.

        Args:
            triplets: as training reads them.
            most: how many are taught at most, drawn at random.
        Returns: how many were taught, and that model against live, fewest first; the last against the one before; and
            the last in the place of live in each way that builds on a model, against live there.
        """
        order = np.random.default_rng(0).permutation(len(triplets))[:most]
        if len(triplets) > most:
            self.remarks.append(f"Of {len(triplets):,} pairs {most:,} were taught at most; --pairs takes more.")
        base = history.base_version(self._stages.database).version_id
        if base != self._live.version_id:
            self.remarks.append(
                f"Live is version {self._live.version_id}, which may be fine-tuned already; what is taught here is"
                f" version {base}, as in a cycle."
            )
        prefix = self._workshop()
        runs: list[tuple[int, Run]] = []
        stacked: dict[str, Run] = {}
        sizes = sorted({min(len(order), max(2, round(share * len(order)))) for share in SHARES})
        for size in sizes if len(order) else ():
            with tempfile.TemporaryDirectory(prefix=prefix, dir=self._stages.directory) as folder:
                encoder = taught(self._stages, triplets.take(np.sort(order[:size])), Path(folder), self._progress)
            name = f"the model that {size:,} pairs taught"
            runs.append((size, self._run(encoder, name, self._texts)))
            if size == sizes[-1]:
                stacked = self._stacked(runs[-1][1], encoder, name)
        return (
            [(size, self._way(run, self._live_run)) for size, run in runs],
            self._way(runs[-1][1], runs[-2][1]) if len(runs) > 1 else None,
            {name: self._way(run, self._live_stacked[name]) for name, run in stacked.items()},
        )

    def reindex(self) -> Reindex:
        """Encode some documents, and tell what all would take."""
        count = len(self._all_documents)
        names = self._all_documents[:: max(1, count // _PROBE)][:_PROBE]
        texts = list(document_texts(self._stages.database, names).values())
        encoder = self._encoder()
        encoder.encode_documents(texts[:1])  # the first call of a model takes longer
        began = time.perf_counter()
        encoder.encode_documents(texts)
        each = (time.perf_counter() - began) / max(len(texts), 1)
        return Reindex(count, each * count, 2 * encoder.dimension * count / 1e6)  # halfvec takes 2 bytes a dimension

    @cached_property
    def _live_run(self) -> Run:
        return exact_run(self._stages, self._live.version_id, self._texts, self._pool, self._progress)

    @cached_property
    def _live_stacked(self) -> dict[str, Run]:
        return self._stacked(self._live_run, self._encoder(), "the live model")

    @cached_property
    def _words(self) -> Run | None:
        """Full-text search; None where it takes too long, for a very large collection must not end the assessment."""
        try:
            found = ranked_by_words(self._stages, self._texts, DEPTH, _PATIENCE_MS, self._progress)
        except Retry as error:
            self.remarks.append(f"Full-text search, and hybrid search with it, takes too long here: {error}")
            return None
        allowed = set(self._all_documents if self._pool is None else self._pool)
        kept = {key: [name for name in names if name in allowed] for key, names in found.items()}
        return {key: {name: 1 / rank for rank, name in enumerate(names, start=1)} for key, names in kept.items()}

    def _look_at(self, contexts: Mapping[str, str]) -> None:
        strangers = len(contexts.keys() - set(self._all_documents))
        if strangers == len(contexts):
            raise BadInput("No context is of a document that is loaded; compare their document_ids with the corpus.")
        if strangers:
            self.remarks.append(f"{strangers:,} of the {len(contexts):,} contexts are of no document that is loaded.")

    def _workshop(self) -> str:
        """
        Clear away what a killed assessment has left, and say how the names of this one's directories begin.

        They lie beside the cycles' files, where `forget` finds the words of people even so.
        """
        self._stages.directory.mkdir(parents=True, exist_ok=True)
        for folder in self._stages.directory.glob("assess-*-*"):
            if not psutil.pid_exists(int(folder.name.split("-")[1])):
                shutil.rmtree(folder)
        return f"assess-{os.getpid()}-"

    def _encoder(self) -> Encoder:
        return self._stages.models.open(self._live.directory)

    def _stacked(self, run: Run, encoder: Encoder, name: str) -> dict[str, Run]:
        """
        Rank in each way that builds on a model.

        Args:
            run: the model's own.
            name: of the model, within a sentence.
        """
        stacked: dict[str, Run] = {}
        if self._words is not None:
            stacked[HYBRID] = fuse([run, self._words])
        if self._reranking is not None:
            began = time.perf_counter()
            stacked[RERANKED] = self._reranking.rerank(self._texts, run, self._progress)
            if self.rerank_seconds is None:  # the first: what later runs have in common with it is not read again
                self.rerank_seconds = (time.perf_counter() - began) / len(self._texts)
        if self._contexts is not None:
            stacked[CONTEXTUAL] = self._run(encoder, f"{name}, with contexts", self._texts, self._contexts)
        return stacked

    def _run(
        self, encoder: Encoder, name: str, texts: Mapping[str, str], contexts: Mapping[str, str] | None = None
    ) -> Run:
        pool = self._all_documents if self._pool is None else self._pool
        names, vectors = encode_in_memory(self._stages, name, encoder, pool, self._progress, contexts)
        return rank_exactly(encoder, texts, names, vectors)

    def _way(self, run: Run, against: Run, queries: Collection[str] | None = None) -> Way:
        """
        Measure one run against another.

        Args:
            queries: that are measured; None: all.
        """
        qrels = {query: row for query, row in self._judged.qrels.items() if queries is None or query in queries}
        one, other = ndcg_at_10(qrels, run), ndcg_at_10(qrels, against)
        weights = self._judged.weights
        return Way(weighted_mean(one, weights) or 0.0, *paired_interval(one, other, weights, SURE))


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
        contexts, references: see Assessor.
        triplets: to teach; None: no learning curve.
        most_pairs: of them at most.
    Raises: BadInput before there is a live version, or for what cannot be used; Retry where an endpoint does not
        answer, FailStep where training fails.
    """
    assessor = Assessor(stages, judged, contexts, progress)
    ways = assessor.ways(references)
    reindex = assessor.reindex()
    curve, doubling, stacked = assessor.curve(triplets, most_pairs) if triplets is not None else ([], None, {})
    return Assessment(
        queries=len(judged.qrels),
        source=judged.source,
        ways=ways,
        rerank_seconds=assessor.rerank_seconds,
        curve=curve,
        doubling=doubling,
        stacked=stacked,
        reindex=reindex,
        remarks=assessor.remarks,
    )
