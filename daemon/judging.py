"""
The log as of one snapshot becomes judgments, on either side of the holdout.

In:  the log, the RANKS of the models, the policies, and what is held out beside the hash. Out: what was heard, and how
it was judged; read by mining. The same of all these gives the same judgments, so that a version can be reproduced.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from relevanced.daemon.bots import BotPolicy, marked_bots
from relevanced.daemon.click_model import ClickModel, ClickModelPolicy, fit_pairs
from relevanced.daemon.evidence import read_evidence
from relevanced.daemon.holdout import HoldoutPolicy, split
from relevanced.daemon.identification import Identification, identify
from relevanced.daemon.judgments import judge_naively, judge_pairs
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.pairs import Pairs, gather
from relevanced.daemon.pooling import PoolingPolicy, pool_siblings
from relevanced.daemon.queries import query_key
from relevanced.daemon.signals import SignalPolicy
from relevanced.daemon.triplets import TripletPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningPolicies:
    """Every setting that triplets depend on; a version's manifest names them, so that they can be mined again."""

    bots: BotPolicy
    signals: SignalPolicy
    click_model: ClickModelPolicy
    pooling: PoolingPolicy
    holdout: HoldoutPolicy
    triplets: TripletPolicy
    min_actors: int  # who must have typed a query for training to learn from it


@dataclass(frozen=True, slots=True)
class Heard:
    """What the log says, without its bots."""

    typed: pa.Table  # user_query, first_typed and last_typed of each text, and more
    keys: pa.Table  # user_query, query_key
    known: Mapping[str, Mapping[str, Any]]  # query_key -> the row of the text that most actors typed
    evidence: pa.Table
    bots: int

    @property
    def anchors(self) -> dict[str, str]:
        """query_key -> its text."""
        return {key: row["user_query"] for key, row in self.known.items()}

    @property
    def actors(self) -> dict[str, int]:
        """query_key -> how many typed it."""
        return {key: row["actors"] for key, row in self.known.items()}


@dataclass(frozen=True, slots=True)
class Judged:
    """JUDGMENTS of all pairs, and of each side; and what they were judged by."""

    judgments: pa.Table
    training: pa.Table
    held_out: pa.Table
    click_model: ClickModel
    bias: Identification
    pairs: Pairs


def hear(log_store: LogStore, snapshot_id: int, policies: MiningPolicies, directory: Path | None) -> Heard:
    """
    Read what people typed and did.

    Args:
        directory: where the copy of the evidence is kept, from which the next reading goes on; None reads everything.
    """
    bots = marked_bots(log_store, snapshot_id, policies.bots)
    typed = log_store.read("typed_queries", snapshot_id, {"bots": bots}, min_actors=policies.min_actors)
    keys, known = _typed(typed)
    evidence = read_evidence(
        log_store, snapshot_id, query_keys=keys, bots=bots, signals=policies.signals, directory=directory
    )
    return Heard(typed, keys, known, evidence, len(bots))


def judge_log(
    heard: Heard,
    ranks: pa.Table,
    policies: MiningPolicies,
    *,
    golden: Collection[bytes],
    retired: Collection[bytes],
) -> Judged:
    """
    Judge every pair that was shown, and part the queries into training and holdout.

    Args:
        ranks: RANKS of the queries that the evidence is about.
        golden, retired: cluster_hashes, as holdout.split takes them.
    """
    deepest = pc.max(ranks["rank"]).as_py() or 0
    pairs = gather(heard.evidence, ranks, deepest)
    click_model = fit_pairs(pairs, deepest, policies.click_model, policies.signals)
    bias = identify(pairs, click_model, policies.click_model, policies.signals)
    if policies.click_model.method == "naive":
        judgments = judge_naively(heard.evidence)
    else:
        judgments = pool_siblings(judge_pairs(pairs, click_model), ranks, click_model.priors, policies.pooling)
    when = heard.keys.append_column("first_typed", heard.typed["first_typed"])
    when = when.append_column("last_typed", heard.typed["last_typed"])
    training, held_out = split(judgments, when, policies.holdout, golden=golden, retired=retired)
    return Judged(judgments, training, held_out, click_model, bias, pairs)


def _typed(typed: pa.Table) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """Give the key of each text that was typed, and for each key what is known of the text that most actors typed."""
    rows = typed.to_pylist()
    keys = [query_key(row["user_query"]) for row in rows]
    most: dict[str, dict[str, Any]] = {}
    for key, row in zip(keys, rows, strict=True):
        if key not in most or _rank(row) > _rank(most[key]):
            most[key] = row
    return pa.table({"user_query": typed["user_query"], "query_key": keys}), most


def _rank(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["actors"], row["user_query"]
