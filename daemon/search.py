"""
A search, from the words typed to the answer.

In:  search requests, the pointer to the live version, that version's encoder and vectors.
Out: answers, each ranking computed wholly in the space of one version; and one UBI query record for each, which the
     consumers read, with the order shown and how likely it was. While a version is on trial, a share of the sessions
     gets answers out of two rankings, live's and its; of the other answers a share may give slots to other rankers.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Annotated, Any, Final
from uuid import uuid4

import numpy as np
import structlog
from annotated_types import Ge

from relevanced.daemon.clock import Clock
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, FailStep, RelevancedError, StopDaemon
from relevanced.daemon.exploration import (
    ExplorationPolicy,
    Presented,
    gives_slots,
    present,
    present_both,
    present_slots,
)
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.index import Index
from relevanced.daemon.interleaving import Team, takes_part
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import RecordSink
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.ranking import Guests, Ranker
from relevanced.daemon.records import Hit, SearchAnswer, SearchRequest, Serving
from relevanced.daemon.trial import TrialPolicy

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
        trial: TrialPolicy,
        holdout: HoldoutPolicy,
        policy: SearchPolicy,
        clock: Clock,
        seed: int | None,
    ) -> None:
        """Take the parts; `seed` is of the exploration, and None in service, where each replica should differ."""
        self._ranker = Ranker(database, index, models, cached_queries=policy.cached_queries)
        self._promotion = promotion
        self._sink = sink
        self._exploration, self._trial, self._holdout = exploration, trial, holdout
        self._clock = clock
        self._rng = np.random.default_rng(seed)
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
        serving = self._serving()
        live_id = serving.live_version_id
        assert live_id is not None  # _serving refuses to go on without
        mixed = self._mixed(requests, serving)
        giving = {
            place for place in range(len(requests)) if place not in mixed and gives_slots(self._rng, self._exploration)
        }
        runs = self._runs(live_id, requests)
        other_runs = self._other_runs(serving, [requests[place] for place in sorted(mixed)])
        guests = self._guests(serving, [requests[place] for place in sorted(giving)])
        answers, records = [], []
        for place, request in enumerate(requests):
            hits = runs[request.user_query][: request.k]
            page = [hit.document_id for hit in hits]
            other: Collection[Hit] = other_runs.get(request.user_query, ()) if place in mixed else ()
            if place in giving:
                found = guests[request.user_query]
                other = found.hits.values()
                presented = present_slots(page, found.rankings, self._rng, self._exploration)
            elif place in mixed and request.user_query in other_runs and serving.trial_id is not None:
                others = [hit.document_id for hit in other][: request.k]
                presented = present_both(page, others, request.k, self._rng, serving.trial_id)
            else:
                # A session in a trial gets no slots, nor would it have got any.
                policy = replace(self._exploration, slot_share=0.0) if place in mixed else self._exploration
                presented = present(page, self._rng, policy)
            answer = _answer(live_id, hits, other, presented)
            answers.append(answer)
            records.append(self._record(request, answer, presented, serving.other_version_id))
        self._hand_in(records)
        return answers

    def ready(self) -> int:
        """
        Make sure that the live version can answer, its encoder loaded, and name it.

        Raises: NoLiveVersion; Retry when Postgres is away.
        """
        version_id = self._serving().live_version_id
        assert version_id is not None
        self._ranker.encoder(version_id)
        return version_id

    def hold(self, version_ids: Collection[int]) -> None:
        """Keep these versions' encoders too, once they are loaded; see replica."""
        self._ranker.hold(version_ids)

    def warm(self, version_id: int) -> None:
        """
        Make a version ready that does not answer yet: its encoder loaded, its index in memory.

        Raises: BadInput, FailStep or StopDaemon when it cannot answer; Retry when Postgres is away.
        """
        self._ranker.warm(version_id)

    def _serving(self) -> Serving:
        """Read the pointer once; the caller stays with what it said, whatever is promoted meanwhile."""
        serving = self._promotion.serving()
        if serving.live_version_id is None:
            raise NoLiveVersion("No version is live yet; `relevanced documents load FILE` makes the first.")
        # One replica after another learns of a promotion, and of a trial's end; what is not asked any more goes. The
        # version before stays, so that a rollback need not wait for its model.
        self._ranker.keep([serving.live_version_id, serving.other_version_id, serving.previous_version_id])
        return serving

    def _mixed(self, requests: Sequence[SearchRequest], serving: Serving) -> set[int]:
        """The places of the requests that are answered by both versions; always the same for one session."""
        if serving.trial_id is None:
            return set()
        # The version before, which live is compared with after a promotion, finds little that live does not.
        mix_share = self._exploration.mix_share if serving.trial_purpose == "promotion" else 0.0
        found = set()
        for place, request in enumerate(requests):
            held_out = is_held_out(cluster_key(query_key(request.user_query)), self._holdout)
            share = self._trial.share if held_out else mix_share
            session = request.session_id or request.client_id or str(uuid4())
            if takes_part(serving.trial_id, session, share):
                found.add(place)
        return found

    def _runs(self, version_id: int, requests: Sequence[SearchRequest]) -> dict[str, list[Hit]]:
        """Rank by one version: text -> hits, as many as any of the requests asks for."""
        return self._ranker.runs(version_id, _texts(requests), max(request.k for request in requests))

    def _other_runs(self, serving: Serving, requests: Sequence[SearchRequest]) -> dict[str, list[Hit]]:
        """Rank by the version on trial; where that fails, live answers alone, for a trial must cost no answer."""
        if not requests or serving.other_version_id is None:
            return {}
        try:
            return self._runs(serving.other_version_id, requests)
        except (BadInput, FailStep, StopDaemon) as error:
            log.warning("The version on trial cannot answer.", version=serving.other_version_id, error=str(error))
            return {}

    def _guests(self, serving: Serving, requests: Sequence[SearchRequest]) -> dict[str, Guests]:
        """What may fill the slots of the requests that give some away."""
        if not requests:
            return {}
        return self._ranker.guests(serving, _texts(requests), max(request.k for request in requests), self._exploration)

    def _record(
        self, request: SearchRequest, answer: SearchAnswer, presented: Presented, other_id: int | None
    ) -> dict[str, Any]:
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
                "ranked_by": _ranked_by(presented, answer.version_id, other_id),
                **({} if request.device is None else {"device": request.device}),
            },
        }

    def _hand_in(self, records: Sequence[dict[str, Any]]) -> None:
        try:
            self._sink.write(records)
        except (RelevancedError, OSError) as error:
            with self._lost_lock:
                self.lost_records += len(records)
            log.warning("Query records were lost: they could not be written.", records=len(records), error=str(error))


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


def _texts(requests: Sequence[SearchRequest]) -> list[str]:
    """What they ask, each text once."""
    return list(dict.fromkeys(request.user_query for request in requests))


def _answer(version_id: int, live: Sequence[Hit], other: Collection[Hit], presented: Presented) -> SearchAnswer:
    lives, others = ({hit.document_id: hit for hit in run} for run in (live, other))
    teams = presented.teams or ["live"] * len(presented.document_ids)
    shown = [
        replace((others if team == "other" or name not in lives else lives)[name], position=position)
        for position, (name, team) in enumerate(zip(presented.document_ids, teams, strict=True), start=1)
    ]
    return SearchAnswer(str(uuid4()), version_id, shown)


def _ranked_by(presented: Presented, live_id: int, other_id: int | None) -> list[str] | None:
    """For each position who put its document there, or both, as in "1+2"; None where live did it alone."""
    if presented.slots is not None and any(presented.slots):
        return [ranker or str(live_id) for ranker in presented.slots]
    if presented.teams is None:
        return None
    names: dict[Team, str] = {"live": str(live_id), "other": str(other_id), "both": f"{live_id}+{other_id}"}
    return [names[team] for team in presented.teams]
