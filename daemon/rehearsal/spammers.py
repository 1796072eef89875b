"""
Simulated clients that push documents: they type queries under which theirs is shown, and click it wherever it is.

In:  the documents, train queries and qrels of a data set. Out: who pushes what under which words; read by searchers.

A pushed document shares words with the queries that it is pushed for, so that it is shown, and answers none of them.
Spammers are many and act as the others do; flooders are few, and send more clicks than anybody believes of a person.
Both stay within the bounds of bots.BotPolicy, else they would not be noticed here at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np

from relevanced.daemon.beir import Qrels, relevant_documents
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.rehearsal.dataset import Dataset

Clicked = list[dict[str, Any]]  # the clicks under one answer, as UBI event records

PUSHED: Final = 20  # documents
TARGETS: Final = 10  # train queries that each is pushed for
FLOOD_CLIENTS: Final = 0.01  # of all clients
FLOOD_SHARE: Final = 0.3  # of all clicks
FLOOD_SEARCHES: Final = (
    10  # for each of an honest client's; so each search brings a few clicks more than it has results
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients that push; the numbers of sessions and clients are for each honest one."""

    name: Literal["spammer", "flooder"]
    seed: int  # beside the rehearsal's, so that the honest searchers are the same with them and without
    sessions: float = 0.0
    clients: float = 0.0
    floods: bool = False

    def of(self, share: float) -> "Crowd":
        """Make them a share of all sessions, and of all clients."""
        return replace(self, sessions=share / (1 - share), clients=share / (1 - share))


SPAM: Final = Crowd("spammer", 7)
_FLOODERS: Final = FLOOD_CLIENTS / (1 - FLOOD_CLIENTS)
FLOOD: Final = Crowd("flooder", 11, _FLOODERS * FLOOD_SEARCHES, _FLOODERS, floods=True)


@dataclass(frozen=True, slots=True)
class Push:
    """A document, and the ids of the queries that it is pushed for, those with most words in common first."""

    document_id: str
    query_ids: Sequence[str]


def pushes(dataset: Dataset, rng: np.random.Generator) -> list[Push]:
    """Draw documents to push, each with the train queries that it has most words in common with and does not answer."""
    texts = {one.document_id: f"{one.title} {one.text}" for one in dataset.documents}
    drawn = rng.permutation(sorted(texts))[:PUSHED]
    return [
        Push(name, nearest(texts[name], name, dataset.train_queries, dataset.train_qrels)) for name in drawn.tolist()
    ]


def nearest(text: str, document_id: str, queries: Mapping[str, str], qrels: Qrels) -> list[str]:
    """Give the queries with the largest share of their words in a text, which the document does not answer."""
    words = _words(text)
    shares = {
        query_id: len(_words(query) & words) / max(1, len(_words(query)))
        for query_id, query in queries.items()
        if document_id not in relevant_documents(qrels[query_id])
    }
    return sorted(shares, key=lambda query_id: (-shares[query_id], query_id))[:TARGETS]


def flooded(clicks: Sequence[Clicked], floods: Sequence[bool], rng: np.random.Generator) -> list[Clicked]:
    """
    Repeat the one click under each flooder's answer until they make up FLOOD_SHARE of all.

    Args:
        clicks: by search; empty for a flooder whose document was not shown, who clicks nothing.
        floods: for each search whether it is a flooder's.
    """
    of_others = sum(len(some) for some, own in zip(clicks, floods, strict=True) if not own)
    places = [place for place, own in enumerate(floods) if own and clicks[place]]
    times = dict.fromkeys(places, 0)
    for number in range(round(of_others * FLOOD_SHARE / (1 - FLOOD_SHARE)) if places else 0):
        times[places[number % len(places)]] += 1
    return [_repeated(some, times[place], rng) if place in times else some for place, some in enumerate(clicks)]


def _repeated(clicks: Clicked, times: int, rng: np.random.Generator) -> Clicked:
    """The click so many times, with pauses as uneven as a person's: median 5 s."""
    (click,) = clicks
    seconds = np.cumsum(rng.lognormal(np.log(5), 1.0, times))
    begun = datetime.fromisoformat(click["timestamp"])
    return [{**click, "timestamp": (begun + timedelta(seconds=float(after))).isoformat()} for after in seconds]


def _words(text: str) -> set[str]:
    return set(cluster_key(query_key(text)).split())
