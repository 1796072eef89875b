"""
The holdout: queries that training never sees, so that the gate can ask about them.

In:  judgments. Out: those for training, those held out; which side a query falls on depends on its cluster alone.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Interval

from relevanced.daemon.queries import cluster_key


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldoutPolicy:
    """How much is held out."""

    # Share of the clusters of queries. Of 1,500 judged queries a fifth is 300, enough for the gate's 100. Lowering it
    # returns queries to training that earlier verdicts relied on; raising it holds out some that live was trained on.
    share: Annotated[float, Interval(gt=0, lt=1)] = 0.2


def is_held_out(cluster_key: str, policy: HoldoutPolicy) -> bool:
    """Draw the side of a cluster: the same on every machine, in every cycle, whatever else was typed."""
    digest = hashlib.blake2b(cluster_key.encode(), digest_size=8, person=b"holdout").digest()
    return int.from_bytes(digest) < policy.share * 2**64


def split(judgments: pa.Table, policy: HoldoutPolicy) -> tuple[pa.Table, pa.Table]:
    """Part judgments by query_key into training and held out; near-duplicate queries stay together."""
    keys = judgments["query_key"].combine_chunks().dictionary_encode()
    held_out = pa.array([is_held_out(cluster_key(key), policy) for key in keys.dictionary.to_pylist()], pa.bool_())
    mask = held_out.take(keys.indices)
    return judgments.filter(pc.invert(mask)), judgments.filter(mask)
