"""
Ranking: who can put documents in an order for a text.

In:  texts, the encoders and vectors of the versions, the documents' words.
Out: runs, each wholly in the space of one version; and for the slots of an answer the guests, documents that other
     rankers would show. search makes answers of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Final

import numpy as np
import structlog

from relevanced.daemon import history
from relevanced.daemon.calibration import read_calibration
from relevanced.daemon.database import Database
from relevanced.daemon.documents import full_text_search
from relevanced.daemon.errors import RelevancedError, StopDaemon
from relevanced.daemon.exploration import ExplorationPolicy
from relevanced.daemon.index import Index
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import Encoder, Vectors
from relevanced.daemon.records import Hit, Serving
from relevanced.daemon.slots import DRAWN_FROM, DRAWN_FROM_DEEPER

_WARMING_TEXTS: Final = 16  # one after another, so that requests are answered between them

Rankings = Mapping[str, list[str]]  # text -> document_ids, best first

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guests:
    """For one text: rankings by the name that the log gives the ranker, and their documents as live scores them."""

    rankings: Mapping[str, Sequence[str]]  # document_ids, best first
    hits: Mapping[str, Hit]


class Ranker:
    """Ranks by any version; any number of threads may call it."""

    def __init__(self, database: Database, index: Index, models: ModelStore, *, cached_queries: int) -> None:
        self._database = database
        self._index = index
        self._models = models
        self._query_vectors = QueryVectors(cached_queries)
        self._opened: dict[int, Encoder] = {}
        self._scales: dict[int, Callable[[float], float | None]] = {}
        self._held: frozenset[int] = frozenset()
        self._changing = Lock()  # of what is opened; who only looks takes the mapping as it is

    def keep(self, version_ids: Collection[int | None]) -> None:
        """Let go of the encoders of all other versions but those held."""
        kept = self._held.union(version_id for version_id in version_ids if version_id is not None)
        if self._opened.keys() <= kept and self._scales.keys() <= kept:
            return
        with self._changing:
            self._opened = {version_id: encoder for version_id, encoder in self._opened.items() if version_id in kept}
            self._scales = {version_id: scale for version_id, scale in self._scales.items() if version_id in kept}

    def hold(self, version_ids: Collection[int]) -> None:
        """
        Keep the encoders of these versions, whatever else is kept.

        A request that was frozen since before a promotion keeps what it knows of; that shall not drop the new encoder.
        """
        self._held = frozenset(version_ids)

    def warm(self, version_id: int) -> None:
        """
        Open a version that does not answer yet, and bring into memory what its first answers will read.

        The last texts that were asked are asked of it too: their vectors are then known, and the hottest part of the
        index is in the server's memory.

        Raises: as encoder; BadInput when the version has no index.
        """
        self._index.warm(version_id)
        for text in self._query_vectors.recent(_WARMING_TEXTS) or ["a first search"]:
            self.runs(version_id, [text], 10)

    def encoder(self, version_id: int) -> Encoder:
        """
        Give the encoder of a version.

        Raises: FailStep when its files are not as they were, StopDaemon when it did not make the version's vectors.
        """
        encoder = self._opened.get(version_id)
        if encoder is None:
            encoder = self._open(version_id)  # outside the lock, since it may take seconds
            with self._changing:
                self._opened = {**self._opened, version_id: encoder}
        return encoder

    def runs(self, version_id: int, texts: Sequence[str], k: int) -> dict[str, list[Hit]]:
        """Rank by one version: text -> the k nearest documents; `texts` are distinct."""
        vectors = self._query_vectors.of(texts, self.encoder(version_id))
        runs = self._index.search(version_id, vectors, k)
        return {text: self._calibrated(version_id, hits) for text, hits in zip(texts, runs, strict=True)}

    def _calibrated(self, version_id: int, hits: Sequence[Hit]) -> list[Hit]:
        """Say what the scores are worth on the base version's scale."""
        scale = self._scales.get(version_id)
        if scale is None:
            scale = self._scale(version_id)
            with self._changing:
                self._scales = {**self._scales, version_id: scale}
        return [replace(hit, calibrated_score=scale(hit.score)) for hit in hits]

    def _scale(self, version_id: int) -> Callable[[float], float | None]:
        if version_id == history.first_number(self._database):
            return lambda score: score
        calibration = read_calibration(history.version(self._database, version_id).manifest)
        return calibration.of if calibration else lambda _: None

    def guests(self, serving: Serving, texts: Sequence[str], k: int, policy: ExplorationPolicy) -> dict[str, Guests]:
        """
        Ask the other rankers: text -> what they would show. One that fails is left out, for it must cost no answer.

        Args:
            texts: distinct.
            k: length of the longest page; each ranker is asked for enough to have new documents behind it.
        """
        live_id = serving.live_version_id
        assert live_id is not None  # Search goes on with a live version only
        rankings: dict[str, dict[str, list[str]]] = {text: {} for text in texts}
        hits: dict[str, dict[str, Hit]] = {text: {} for text in texts}
        try:
            for name, ask in self._others(serving, texts, k, policy):
                for text, ranking in self._asked(name, ask).items():
                    rankings[text][name] = ranking
            for text, by_name in rankings.items():
                hits[text] = self._scored(live_id, text, set(chain.from_iterable(by_name.values())))
        except RelevancedError as error:
            log.warning("No slots are filled: live cannot score what others found.", error=str(error))
        # What live has no vector of, since it is new or gone, cannot be shown beside what it has scored.
        return {
            text: Guests(
                {name: [one for one in ranking if one in hits[text]] for name, ranking in by_name.items()}, hits[text]
            )
            for text, by_name in rankings.items()
        }

    def _others(
        self, serving: Serving, texts: Sequence[str], k: int, policy: ExplorationPolicy
    ) -> Iterator[tuple[str, Callable[[], Rankings]]]:
        """Yield those that the policy wants and that exist, by the name that the log gives each."""
        live_id, previous_id = serving.live_version_id, serving.previous_version_id
        wanted = policy.slot_ranker
        if wanted in ("full_text", "mixed"):
            yield "full_text", partial(full_text_search, self._database, texts, k + DRAWN_FROM, policy.full_text_ms)
        if wanted in ("previous", "mixed") and previous_id is not None:
            yield str(previous_id), partial(self._ranking, previous_id, texts, k + DRAWN_FROM)
        if wanted in ("deeper", "mixed") and live_id is not None:
            yield "deeper", partial(self._ranking, live_id, texts, k + DRAWN_FROM_DEEPER)

    def _asked(self, name: str, ask: Callable[[], Rankings]) -> Rankings:
        try:
            return ask()
        except (RelevancedError, OSError) as error:
            log.warning("A ranker cannot fill slots.", ranker=name, error=str(error))
            return {}

    def _ranking(self, version_id: int, texts: Sequence[str], k: int) -> Rankings:
        runs = self.runs(version_id, texts, k)
        return {text: [hit.document_id for hit in run] for text, run in runs.items()}

    def _scored(self, version_id: int, text: str, document_ids: Collection[str]) -> dict[str, Hit]:
        """Score documents for a text by one version; those without a vector are left out."""
        (vector,) = self._query_vectors.of([text], self.encoder(version_id))
        hits = self._calibrated(version_id, self._index.score(version_id, vector, list(document_ids)))
        return {hit.document_id: hit for hit in hits}

    def _open(self, version_id: int) -> Encoder:
        version = history.version(self._database, version_id)
        encoder = self._models.open(version.directory)
        if encoder.fingerprint != version.fingerprint:
            raise StopDaemon(
                f"The model in {version.directory} is not the one that made version {version_id}'s vectors; "
                "put its files back, or promote another version."
            )
        return encoder


class QueryVectors:
    """The vectors of recent queries, the least recently asked dropped first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._lock = Lock()

    def recent(self, most: int) -> list[str]:
        """Give the texts that were asked last, the last first, each once."""
        with self._lock:
            # A text that two versions were asked is there twice.
            return list(dict.fromkeys(text for _, text in islice(reversed(self._vectors), 2 * most)))[:most]

    def of(self, texts: Sequence[str], encoder: Encoder) -> Vectors:
        """Return float32 (n_texts, dimension), of the encoder's space; `texts` are distinct."""
        space = encoder.fingerprint
        with self._lock:
            found = {text: vector for text in texts if (vector := self._vectors.get((space, text))) is not None}
        missing = [text for text in texts if text not in found]
        if missing:
            # Copied one by one: a row that is a view would keep its whole batch in memory.
            found.update(zip(missing, (row.copy() for row in encoder.encode_queries(missing)), strict=True))
        with self._lock:
            for text in texts:
                self._vectors[space, text] = found[text]
                self._vectors.move_to_end((space, text))
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return np.stack([found[text] for text in texts])
