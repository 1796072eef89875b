"""
Simulated searches, written into a log store many at a time.

Queries are Zipf distributed; each has some fifteen documents, of which a version shows ten in its own order. A client
searches about three times, at times again in the same session; most searches are reported by their hits, some by the
impressions of the page as well. Who looks at a position and finds it relevant clicks as a position-based model says.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relevanced.daemon.log_store import LogStore
from tests.clicks import LOVBENCH

CANDIDATES: Final = 15  # documents that a query may be answered with
SHOWN: Final = 10
DEPTH: Final = 50  # of the run that gives ranks; what is below the candidates is never shown
DOCUMENTS: Final = 200_000
DAY: Final = 86_400 * 1_000_000  # microseconds
START: Final = 1_767_225_600 * 1_000_000  # 2026-01-01

Integers = npt.NDArray[np.int64]


@dataclass
class Town:
    """The truth, and who has searched so far."""

    queries: int = 50_000
    versions: int = 3
    seed: int = 0
    clients: int = 0
    documents: Integers = field(init=False)  # (queries, DEPTH), numbers of documents; the first CANDIDATES may be shown
    relevant: npt.NDArray[np.bool_] = field(init=False)  # (queries, CANDIDATES)
    orders: Integers = field(init=False)  # (versions, queries, SHOWN), places in documents
    ranks: Integers = field(init=False)  # (queries, DEPTH), of the first version

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        shape = (self.queries, CANDIDATES)
        self.documents = self.rng.integers(0, DOCUMENTS, (self.queries, DEPTH))
        self.relevant = np.arange(CANDIDATES) < 1 + self.rng.poisson(0.5, self.queries)[:, None]
        temper, orders = self.rng.standard_normal(shape), []
        for version in range(self.versions):
            noise = temper if version == 0 else 0.6 * temper + 0.8 * self.rng.standard_normal(shape)
            orders.append(np.argsort(-((1.5 + 0.5 * version) * self.relevant + noise), axis=1))
        self.orders = np.stack(orders)[:, :, :SHOWN]
        base = np.broadcast_to(np.arange(DEPTH), (self.queries, DEPTH)).copy()
        base[:, :CANDIDATES] = orders[0]
        self.ranks = base
        popularity = 1 / np.arange(1, self.queries + 1)
        self.cumulated = np.cumsum(popularity) / popularity.sum()

    def ranks_table(self) -> pa.Table:
        """RANKS of the first version."""
        queries = np.repeat(np.arange(self.queries), DEPTH)
        documents = np.take_along_axis(self.documents, self.ranks, axis=1).ravel()
        ranks = np.tile(np.arange(1, DEPTH + 1), self.queries)
        _, first = np.unique(queries * DOCUMENTS + documents, return_index=True)  # a run has a document once
        return pa.table(
            {
                "query_key": names("words of query ", queries[first]),
                "document_id": names("doc-", documents[first]),
                "rank": pa.array(ranks[first], pa.int32()),
            }
        )

    def search(self, log_store: LogStore, sessions: int, *, returning: float = 0.0, at_once: int = 250_000) -> None:
        """Let people search; `returning` is the share of the searches that known clients make."""
        known = self.clients
        for start in range(0, sessions, at_once):
            some = min(at_once, sessions - start)
            since = START + (0 if not returning else 60 * DAY)
            queries, rendered, clicks = self._searches(some, known, returning, since)
            with log_store.transaction() as rows:
                rows.append("query", queries)
                if len(rendered):
                    rows.append("impression", rendered)
                rows.append("click", clicks)

    def _searches(self, count: int, known: int, returning: float, since: int) -> tuple[pa.Table, pa.Table, pa.Table]:
        rng = self.rng
        query = np.searchsorted(self.cumulated, rng.random(count))
        client = self.clients + rng.integers(0, max(round(count * (1 - returning) / 3), 1), count)
        old = rng.random(count) < returning
        client[old] = rng.integers(0, max(known, 1), int(old.sum()))
        self.clients = int(client.max()) + 1
        version = rng.integers(0, self.versions, count)
        at = since + rng.integers(0, 60 * 86_400, count) * 1_000_000
        # Who searches again within the minutes has the session of the search before.
        follows = rng.random(count) < 0.15
        before = np.arange(count) - 1
        follows[0] = False
        session = np.arange(count)
        for _ in range(3):  # chains of more are rare
            session[follows] = session[before[follows]]
            client[follows], version[follows] = client[before[follows]], version[before[follows]]
            at[follows] = at[before[follows]] + 40_000_000
        places = self.orders[version, query]
        documents = self.documents[query[:, None], places]
        rate = np.where(self.relevant[query[:, None], places], 0.7, 0.1)
        clicked = (rng.random(places.shape) < LOVBENCH) & (rng.random(places.shape) < rate)
        query_id, unique = random_ids(rng, count), f"{rng.integers(1 << 40):x}-"
        common = {
            "query_id": query_id,
            "client_id": names("client-", client),
            "session_id": names(f"session-{unique}", session),
            "application": pa.repeat("shop", count),
            "timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
        }
        flat = names("doc-", documents.ravel())
        ends = pa.array(np.arange(0, count * SHOWN + 1, SHOWN), pa.int32())
        queries = pa.table(
            {
                **common,
                "user_query": names("words of query ", query),
                "hit_ids": pa.ListArray.from_arrays(ends, flat),
                "version": names("", version + 1),
            }
        )
        row, place = np.nonzero(clicked)
        dwell = rng.exponential(30.0, len(row))
        clicks = pa.table(
            {
                **{name: column.take(pa.array(row)) for name, column in common.items()},
                "document_id": flat.take(pa.array(row * SHOWN + place)),
                "position": pa.array(place + 1, pa.int32()),
                "dwell_seconds": pa.array(dwell, mask=rng.random(len(row)) < 0.5),
            }
        )
        told = np.flatnonzero(rng.random(count) < 0.02)
        row, place = np.repeat(told, SHOWN), np.tile(np.arange(SHOWN), len(told))
        rendered = pa.table(
            {
                **{name: column.take(pa.array(row)) for name, column in common.items()},
                "document_id": flat.take(pa.array(row * SHOWN + place)),
                "position": pa.array(place + 1, pa.int32()),
            }
        )
        return queries, rendered, clicks


def names(prefix: str, numbers: Integers) -> pa.Array:
    """A text for each number, made once for each distinct one."""
    distinct, place = np.unique(numbers, return_inverse=True)
    return pa.array([f"{prefix}{number}" for number in distinct.tolist()], pa.string()).take(pa.array(place.ravel()))


def random_ids(rng: np.random.Generator, count: int) -> pa.Array:
    """32 hex digits each."""
    text = rng.bytes(16 * count).hex().encode()
    return pa.array(np.frombuffer(text, "S32"), pa.binary()).cast(pa.string())
