"""
A search, from the words typed to the answer.

In:  search requests, the pointer to the live version, that version's encoder and vectors.
Out: answers, each computed wholly in the space of one version; and one UBI query record for each, which the consumers
     read, with the order shown and how likely it was.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Annotated, Any, Final
from uuid import uuid4

import numpy as np
import structlog
from annotated_types import Ge

from relevanced.daemon import history
from relevanced.daemon.clock import Clock
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, RelevancedError, StopDaemon
from relevanced.daemon.exploration import ExplorationPolicy, Presented, present
from relevanced.daemon.index import Index
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import Encoder, RecordSink, Vectors
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Hit, SearchAnswer, SearchRequest

MAX_K: Final = 100
MAX_QUERY_CHARACTERS: Final = 2_000
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")  # halves of a surrogate pair; and what Postgres cannot store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPolicy:
    """What a search keeps in memory."""

    # Vectors of recent queries; traffic is Zipf, so a few thousand queries are most of it. 15 MB at dimension 384.
    cached_queries: Annotated[int, Ge(0)] = 10_000


class NoLiveVersion(BadInput):
    """There is no version yet that could answer."""


class Search:
    """Answers searches by the live version; any number of threads may call it."""

    def __init__(
        self,
        *,
        database: Database,
        index: Index,
        models: ModelStore,
        promotion: Promotion,
        sink: RecordSink,
        exploration: ExplorationPolicy,
        policy: SearchPolicy,
        clock: Clock,
        seed: int | None,
    ) -> None:
        """Take the parts; `seed` is of the exploration, and None in service, where each replica should differ."""
        self._database = database
        self._index = index
        self._models = models
        self._promotion = promotion
        self._sink = sink
        self._exploration = exploration
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._query_vectors = QueryVectors(policy.cached_queries)
        self._opened: tuple[int, Encoder] | None = None
        self._lost_lock = Lock()
        self.lost_records = 0  # query records that the sink did not take, since the start

    def search(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """
        Answer the requests, all by the version that is live now, and hand in their query records.

        A sink that fails costs the record, never the answer.

        Raises: BadInput for a request that cannot be answered, and then none is; NoLiveVersion; Retry when Postgres is
            away.
        """
        if not requests:
            return []
        for request in requests:
            check(request)
        version_id, encoder = self._live()
        texts = list(dict.fromkeys(request.user_query for request in requests))
        vectors = self._query_vectors.of(texts, encoder)
        runs = self._index.search(version_id, vectors, max(request.k for request in requests))
        run_of = dict(zip(texts, runs, strict=True))
        answers, records = [], []
        for request in requests:
            hits = {hit.document_id: hit for hit in run_of[request.user_query][: request.k]}
            presented = present(list(hits), self._rng, self._exploration)
            answer = _answer(version_id, hits, presented)
            answers.append(answer)
            records.append(self._record(request, answer, presented))
        self._hand_in(records)
        return answers

    def ready(self) -> int:
        """
        Make sure that the live version can answer, its encoder loaded, and name it.

        Raises: NoLiveVersion; Retry when Postgres is away.
        """
        version_id, _ = self._live()
        return version_id

    def _live(self) -> tuple[int, Encoder]:
        """Read the pointer once; the caller stays with what it said, whatever is promoted meanwhile."""
        version_id = self._promotion.serving().live_version_id
        if version_id is None:
            raise NoLiveVersion("No version is live yet; `relevanced documents load FILE` makes the first.")
        opened = self._opened
        if opened is None or opened[0] != version_id:
            opened = self._opened = version_id, self._open(version_id)
        return opened

    def _open(self, version_id: int) -> Encoder:
        version = history.version(self._database, version_id)
        encoder = self._models.open(version.directory)
        if encoder.fingerprint != version.fingerprint:
            raise StopDaemon(
                f"The model in {version.directory} is not the one that made version {version_id}'s vectors; "
                "put its files back, or promote another version."
            )
        return encoder

    def _record(self, request: SearchRequest, answer: SearchAnswer, presented: Presented) -> dict[str, Any]:
        """One UBI query record; what the caller did not tell is left out."""
        told = {
            "client_id": request.client_id,
            "session_id": request.session_id,
            "application": request.application,
        }
        return {
            "query_id": answer.query_id,
            "user_query": request.user_query,
            **{name: value for name, value in told.items() if value is not None},
            "timestamp": (request.timestamp or self._clock.now()).isoformat(timespec="milliseconds"),
            "object_id_field": "document_id",
            "query_response_id": str(uuid4()),
            "query_response_hit_ids": list(presented.document_ids),
            "query_attributes": {
                "version": str(answer.version_id),
                "policy": presented.policy,
                "propensities": presented.propensities and list(presented.propensities),
            },
        }

    def _hand_in(self, records: Sequence[dict[str, Any]]) -> None:
        try:
            self._sink.write(records)
        except (RelevancedError, OSError) as error:
            with self._lost_lock:
                self.lost_records += len(records)
            log.warning("Query records were lost: they could not be written.", records=len(records), error=str(error))


class QueryVectors:
    """The vectors of recent queries, the least recently asked dropped first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._lock = Lock()

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


def check(request: SearchRequest) -> None:
    """
    See that a request can be answered.

    Raises: BadInput, with the sentence for the one who asks.
    """
    if not request.user_query.strip():
        raise BadInput("The query is empty; type some words.")
    if len(request.user_query) > MAX_QUERY_CHARACTERS:
        raise BadInput(
            f"The query has {len(request.user_query):,} characters; shorten it to {MAX_QUERY_CHARACTERS:,} at most."
        )
    if _NO_TEXT.search(request.user_query):
        raise BadInput("The query holds characters that are no text; send it as UTF-8, without U+0000.")
    if not 1 <= request.k <= MAX_K:
        raise BadInput(f"k is {request.k}; ask for 1 to {MAX_K} documents.")


def _answer(version_id: int, hits: dict[str, Hit], presented: Presented) -> SearchAnswer:
    shown = [
        replace(hits[document_id], position=position)
        for position, document_id in enumerate(presented.document_ids, start=1)
    ]
    return SearchAnswer(str(uuid4()), version_id, shown)
