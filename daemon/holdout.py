"""
The holdout: queries that training never sees, so that the gate can ask about them.

In:  judgments, and when each text was typed. Out: those for training, those held out. Which side a query falls on
depends on its cluster alone: on its hash, and, where new queries are held out too, on when it was first typed; and one
that experts have judged is held out, whatever its hash.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Interval

from relevanced.daemon.queries import cluster_key

MOMENT: Final = pa.timestamp("us", "UTC")

HeldOutBy = Literal["hash", "time", "both", "golden"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldoutPolicy:
    """How much is held out."""

    # Share of the clusters of queries. Of 1,500 judged queries a fifth is 300, enough for the gate's 100. Lowering it
    # returns queries to training that earlier verdicts relied on; raising it holds out some that live was trained on.
    share: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    # Days up to the newest query: what was first typed within them is held out of this cycle, whatever its hash, and
    # comes into training in a later one. 0, none: small traffic cannot spare what is newest, and a log no older than
    # this would train nothing at all.
    recent_days: Annotated[float, Interval(ge=0, le=365)] = 0.0
    # Verdicts that a cluster is asked for: a year of nights, and a month. Who tunes by the verdicts on the same queries
    # tunes to these queries in the end. Then it goes over to training, and is never asked again, ...
    max_verdicts: Annotated[int, Ge(1)] = 400
    # ... as long as so many clusters that were asked less stay; small traffic needs the queries that it has.
    min_kept: Annotated[int, Ge(0)] = 1000


def is_held_out(cluster_key: str, policy: HoldoutPolicy) -> bool:
    """Draw the side of a cluster: the same on every machine, in every cycle, whatever else was typed."""
    digest = hashlib.blake2b(cluster_key.encode(), digest_size=8, person=b"holdout").digest()
    return int.from_bytes(digest) < policy.share * 2**64


def cluster_hash(cluster_key: str) -> bytes:
    """By what a cluster is known where its words are not wanted, 16 bytes."""
    return hashlib.blake2b(cluster_key.encode(), digest_size=16, person=b"cluster").digest()


def split(
    judgments: pa.Table,
    typed: pa.Table,
    policy: HoldoutPolicy,
    *,
    golden: Collection[bytes] = (),
    retired: Collection[bytes] = (),
) -> tuple[pa.Table, pa.Table]:
    """
    Part judgments by query_key into training and held out; near-duplicate queries stay together.

    Args:
        typed: query_key, first_typed and last_typed of each text, moments or null; a cluster is as old as its oldest.
        golden: cluster_hashes of what experts have judged, which are held out always.
        retired: cluster_hashes that were asked often enough, whose hash holds them out no more.
    Returns: those for training; those held out, with `first_typed` of their cluster and `held_out_by`, a HeldOutBy.
    """
    first_typed = _first_typed(typed)
    recent = _recent(first_typed, pc.max(typed["last_typed"].cast(MOMENT)).as_py(), policy)
    keys = judgments["query_key"].combine_chunks().dictionary_encode()
    clusters = [cluster_key(key) for key in keys.dictionary.to_pylist()]
    sides = {cluster: _held_out_by(cluster, recent, golden, retired, policy) for cluster in set(clusters)}
    held_out_by = pa.array([sides[cluster] for cluster in clusters], pa.string())
    moments = pa.array([first_typed.get(cluster) for cluster in clusters], MOMENT)
    held_out_by = held_out_by.take(keys.indices)
    held_out = judgments.append_column("first_typed", moments.take(keys.indices))
    held_out = held_out.append_column("held_out_by", held_out_by)
    return judgments.filter(held_out_by.is_null()), held_out.filter(held_out_by.is_valid())


def _first_typed(typed: pa.Table) -> dict[str, datetime]:
    """The first moment of each cluster that has any."""
    first: dict[str, datetime] = {}
    for key, moment in zip(typed["query_key"].to_pylist(), typed["first_typed"].cast(MOMENT).to_pylist(), strict=True):
        if moment is not None:
            cluster = cluster_key(key)
            first[cluster] = min(first.get(cluster, moment), moment)
    return first


def _recent(first_typed: Mapping[str, datetime], newest: datetime | None, policy: HoldoutPolicy) -> Collection[str]:
    if newest is None or not policy.recent_days:
        return frozenset()
    span = timedelta(days=policy.recent_days)
    return {cluster for cluster, moment in first_typed.items() if newest - moment < span}


def _held_out_by(
    cluster: str, recent: Collection[str], golden: Collection[bytes], retired: Collection[bytes], policy: HoldoutPolicy
) -> HeldOutBy | None:
    known_as = cluster_hash(cluster)
    if is_held_out(cluster, policy) and known_as not in retired:
        return "both" if cluster in recent else "hash"
    if known_as in golden:
        return "golden"
    return "time" if cluster in recent else None
