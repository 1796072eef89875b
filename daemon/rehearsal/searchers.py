"""
Simulated searchers, who know what is relevant and never say it.

In:  the train queries and qrels of a data set, and the answers of the real search path.
Out: sessions (who types what, and when), and for each answer UBI click records; both go where real ones would.

A searcher gives up before looking at anything, or reads the page by one of the click models. The miner knows nothing of
them. Test queries are never typed.
"""

import heapq
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from annotated_types import Interval

from relevanced.daemon.beir import relevant_documents
from relevanced.daemon.queries import query_key
from relevanced.daemon.records import SearchAnswer
from relevanced.daemon.rehearsal.click_models import READERS, Bias, Clicks
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.spammers import FLOOD, SPAM, Clicked, Crowd, flooded, pushes

_AGAIN: Final = 3  # beside the seed, so that the first searches are the same with reformulations and without


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchersPolicy:
    """How the simulated searchers behave."""

    mean_sessions: Annotated[float, Interval(gt=0)] = 8.0  # for each train query and cycle, as in the pilot
    zipf_exponent: Annotated[float, Interval(ge=0)] = 1.0  # of traffic over the train queries; 1: as in web search
    even_share: Annotated[float, Interval(ge=0, le=1)] = 0.1  # of traffic, spread evenly, so that the tail is typed too
    sessions_per_client: Annotated[float, Interval(ge=1)] = 3.0  # for each cycle, mean; clients return in later cycles
    typing_variation: Annotated[float, Interval(ge=0, le=1)] = 0.2  # share of sessions in other case or punctuation
    clicks: Clicks = "pbm"  # the click model; pbm, since the miner assumes it, and the others ask what that costs
    bias: Bias = "lovbench"  # examination by position
    noise: Annotated[float, Interval(ge=0, le=0.5)] = 0.1  # P(wrong click or wrong skip | examined); .5 says nothing
    abandonment: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # share of sessions that look at no document
    # Share of the sessions whose clients push a document; each client has as many sessions as the others have.
    spam: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    flood: bool = False  # whether a few clients more send a large share of all clicks; see spammers.FLOOD_SHARE
    # P(other words for the same need | nothing clicked); 0, since it needs queries that share a relevant document.
    reformulation: Annotated[float, Interval(ge=0, le=1)] = 0.0
    days_per_cycle: Annotated[float, Interval(gt=0)] = 7.0  # of simulated time


@dataclass(frozen=True, slots=True)
class Session:
    """One searcher's one search: the words as typed, and the data set's id of the query meant, which stays here."""

    dataset_query_id: str
    user_query: str
    client_id: str
    session_id: str
    timestamp: datetime
    pushed: str | None = None  # the document_id that a spammer or flooder clicks, and nothing else
    floods: bool = False  # clicks it again and again
    attempt: int = 0  # 1 for the search in other words, in the session of the first


class Searchers:
    """The searchers of one rehearsal; the same seed gives the same sessions and, to one answer, the same clicks."""

    def __init__(
        self,
        dataset: Dataset,
        policy: SearchersPolicy,
        *,
        seed: int,
        start: datetime,
        views: Sequence[Dataset] = (),
    ) -> None:
        """Take the data set; `views` is what of it is there in each cycle, by default all of it."""
        self._policy = policy
        self._seed = seed
        self._start = start
        self._queries = dataset.train_queries
        self._query_ids = sorted(dataset.train_queries)
        self._views = views
        self._relevant = {query_id: relevant_documents(row) for query_id, row in dataset.train_qrels.items()}
        self._expected = self._expected_sessions()
        self._same_need = _same_need(self._queries, self._relevant) if policy.reformulation else {}
        self._crowds = [SPAM.of(policy.spam)] if policy.spam else []
        self._crowds += [FLOOD] if policy.flood else []
        self.pushes = pushes(dataset, np.random.default_rng([seed, SPAM.seed]))  # or would be pushed

    @property
    def attacked(self) -> bool:
        """Whether anybody pushes."""
        return bool(self._crowds)

    def sessions(self, cycle: int) -> Iterator[Session]:
        """The sessions of one cycle (from 0) in the order of time, those of spammers and flooders among them."""
        crowds = (self._pushing(crowd, cycle) for crowd in self._crowds)
        return heapq.merge(self._honest(cycle), *crowds, key=lambda session: session.timestamp)

    def _pushing(self, crowd: Crowd, cycle: int) -> Iterator[Session]:
        """Who pushes comes back in every cycle, and each spammer pushes one document for ever."""
        rng = np.random.default_rng([self._seed, crowd.seed, cycle])
        count = rng.poisson(crowd.sessions * self._expected.sum()) if self.pushes else 0
        clients = max(1, round(crowd.clients * self._clients()))
        for number, day in enumerate(self._policy.days_per_cycle * (cycle + np.sort(rng.random(count)))):
            client = int(rng.integers(clients))
            push = self.pushes[(int(rng.integers(len(self.pushes))) if crowd.floods else client) % len(self.pushes)]
            query_id = push.query_ids[int(rng.integers(len(push.query_ids)))]
            if query_id not in self._typed(cycle):
                continue
            yield Session(
                dataset_query_id=query_id,
                user_query=self._as_typed(self._queries[query_id], rng),
                client_id=f"{crowd.name}-{client}",
                session_id=f"{crowd.name}-session-{cycle}-{number}",
                timestamp=self._start + timedelta(days=float(day)),
                pushed=push.document_id,
                floods=crowd.floods,
            )

    def _honest(self, cycle: int) -> Iterator[Session]:
        """A Poisson number of sessions for each query."""
        rng = np.random.default_rng([self._seed, cycle])
        expected = self._expected * [query_id in self._typed(cycle) for query_id in self._query_ids]
        typed = rng.permutation(np.repeat(np.arange(len(self._query_ids)), rng.poisson(expected)))
        clients = rng.integers(self._clients(), size=len(typed))
        days = self._policy.days_per_cycle * (cycle + np.sort(rng.random(len(typed))))
        for number, (query, client, day) in enumerate(zip(typed, clients, days, strict=True)):
            query_id = self._query_ids[query]
            yield Session(
                dataset_query_id=query_id,
                user_query=self._as_typed(self._queries[query_id], rng),
                client_id=f"searcher-{client}",
                session_id=f"session-{cycle}-{number}",
                timestamp=self._start + timedelta(days=float(day)),
            )

    def again(self, session: Session, cycle: int) -> Session | None:
        """
        Let an honest searcher who clicked nothing try other words for the same need, 10 to 60 s later, or not.

        None also where no other query of the cycle has a relevant document in common.
        """
        rng = np.random.default_rng([self._seed, zlib.crc32(session.session_id.encode()), _AGAIN])
        others = [one for one in self._same_need.get(session.dataset_query_id, []) if one in self._typed(cycle)]
        if session.pushed is not None or session.attempt or rng.random() >= self._policy.reformulation or not others:
            return None
        query_id = others[int(rng.integers(len(others)))]
        return replace(
            session,
            dataset_query_id=query_id,
            user_query=self._as_typed(self._queries[query_id], rng),
            timestamp=session.timestamp + timedelta(seconds=float(rng.uniform(10, 60))),
            attempt=1,
        )

    def flood(self, sessions: Sequence[Session], clicks: Sequence[Clicked]) -> list[Clicked]:
        """Let the flooders among some sessions repeat their click until they have their share of all."""
        rng = np.random.default_rng(
            [self._seed, FLOOD.seed, *(zlib.crc32(one.session_id.encode()) for one in sessions)]
        )
        return flooded(clicks, [session.floods for session in sessions], rng)

    def click(self, session: Session, answer: SearchAnswer) -> Clicked:
        """
        Look at an answer and return the clicks as UBI event records, in the order of the page.

        Some give up at once; a spammer clicks the document it pushes, wherever it is; the others read the page.
        """
        # By session, so that a rehearsal that goes on after a stop meets the same searchers.
        attempt = [session.attempt] if session.attempt else []
        rng = np.random.default_rng([self._seed, zlib.crc32(session.session_id.encode()), *attempt])
        if session.pushed is None and rng.random() < self._policy.abandonment:
            return []
        reader = READERS[self._policy.clicks](self._policy.bias, self._policy.noise)
        clicks: Clicked = []
        seconds = 0.0
        for hit in answer.hits:
            seconds += rng.uniform(1, 4)  # to read one entry of the page
            relevant = hit.document_id in self._relevant[session.dataset_query_id]
            clicked = reader.clicks(hit.position, relevant=relevant, rng=rng)
            if session.pushed is not None:
                clicked = hit.document_id == session.pushed
            if clicked:
                # Dwell times of good and bad documents overlap widely, as real ones do: medians of 40 and 15 s.
                dwell = float(rng.lognormal(np.log(40 if relevant else 15), 1.0))
                clicks.append(
                    {
                        "action_name": "click",
                        "query_id": answer.query_id,
                        "client_id": session.client_id,
                        "session_id": session.session_id,
                        "timestamp": (session.timestamp + timedelta(seconds=seconds)).isoformat(),
                        "event_attributes": {
                            "object": {"object_id": hit.document_id},
                            "position": {"ordinal": hit.position},
                            "dwell_seconds": round(dwell, 1),
                        },
                    }
                )
                seconds += dwell
        return clicks

    def _expected_sessions(self) -> npt.NDArray[np.float64]:
        """Sessions of a cycle for each query; which queries are popular stays the same in all cycles."""
        ranks = np.random.default_rng(self._seed).permutation(len(self._query_ids)) + 1.0
        share = ranks**-self._policy.zipf_exponent
        share = (1 - self._policy.even_share) * share / share.mean() + self._policy.even_share
        expected: npt.NDArray[np.float64] = self._policy.mean_sessions * share
        return expected

    def _typed(self, cycle: int) -> Collection[str]:
        """The ids of the queries that anybody types in a cycle."""
        return self._views[cycle].train_queries if self._views else self._queries

    def _clients(self) -> int:
        return max(1, round(float(self._expected.sum()) / self._policy.sessions_per_client))

    def _as_typed(self, text: str, rng: np.random.Generator) -> str:
        """The text, in a share of the sessions with other case, another blank or a mark at its end."""
        if rng.random() >= self._policy.typing_variation:
            return text
        variations = (text.upper(), text.lower(), text.capitalize(), text.replace(" ", "  "), f" {text} ", f"{text}?")
        return variations[rng.integers(len(variations))]


def _same_need(queries: Mapping[str, str], relevant: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Give for each query the others, in other words, that have a relevant document in common with it."""
    of_document: dict[str, set[str]] = {}
    for query_id, documents in relevant.items():
        for document_id in documents:
            of_document.setdefault(document_id, set()).add(query_id)
    keys = {query_id: query_key(text) for query_id, text in queries.items()}
    return {
        query_id: sorted(
            other
            for other in set().union(*(of_document[document_id] for document_id in documents))
            if keys[other] != keys[query_id]
        )
        for query_id, documents in relevant.items()
    }
