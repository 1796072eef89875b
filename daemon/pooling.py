"""
Evidence pooled over queries that differ in form alone.

In:  JUDGMENTS, RANKS, and the priors of the click model. Out: JUDGMENTS in which a pair also hears what people did with
its document under the query's siblings, those of the same cluster_key; read by holdout, triplets and the gate.

Siblings fall on one side of the holdout, which is drawn by their cluster; so nothing crosses it here.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Interval
from scipy.special import expit, logit

from relevanced.daemon.pairs import Floats, Integers, gather, numbers, sums
from relevanced.daemon.queries import cluster_key

_PAIR: Final = ["query_key", "document_id"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolingPolicy:
    """How far siblings are believed."""

    # Share of the log odds of what was done under a sibling. Half, for it may mean something else: equal stems in any
    # order join "can dogs eat grapes" to "grapes eat dogs". 0: each query stands alone.
    sibling_share: Annotated[float, Interval(ge=0, le=1)] = 0.5


def pool_siblings(judgments: pa.Table, ranks: pa.Table, priors: Floats, policy: PoolingPolicy) -> pa.Table:
    """
    Add to the log odds of each pair its share of those of its siblings.

    A pair that is judged for a sibling and was not shown for this query gets a row, from its own prior. A sibling that
    looks pushed speaks with the rest of its probability only, or a campaign for one wording would win all.

    Args:
        judgments: JUDGMENTS of one query each, as `judge` gives them.
        priors: ClickModel.priors, by rank.
    Returns: JUDGMENTS. siblings: what they add to the log odds; grade, pushed and weight follow, and inclusion is the
        largest of all siblings, for what is found under one is found. log_odds and the evidence stay the query's own.
    """
    if not policy.sibling_share:
        return judgments.append_column("siblings", pa.array(np.zeros(len(judgments))))
    pairs = _with_pairs_of_siblings(judgments, ranks, priors)
    own, grade, pushed, inclusion = (pairs[name].to_numpy() for name in ("log_odds", "grade", "pushed", "inclusion"))
    group, size = _groups(pairs)
    said = own * (1 - pushed)
    # Where there is no sibling, exactly nothing: a difference of sums would leave their rounding.
    heard = np.where(size[group] > 1, policy.sibling_share * (sums(group, said, len(size))[group] - said), 0.0)
    likeliest = np.zeros(len(size))
    np.maximum.at(likeliest, group, inclusion)
    # The odds of relevant to all the rest, pushed or not, change by the same factor; so pushed keeps its part of it.
    pooled = np.where(heard == 0, grade, expit(logit(grade) + heard))
    rest = np.divide(1 - pooled, 1 - grade, out=np.ones(len(grade)), where=grade < 1)
    changed = {
        "grade": pooled,
        "pushed": pushed * rest,
        "weight": np.where(heard == 0, pairs["weight"].to_numpy(), np.abs(np.tanh((own + heard) / 2))),
        "inclusion": likeliest[group],
    }
    for name, values in changed.items():
        pairs = pairs.set_column(pairs.column_names.index(name), name, pa.array(values))
    return pairs.append_column("siblings", pa.array(heard))


def _groups(pairs: pa.Table) -> tuple[Integers, Integers]:
    """Number each pair by its cluster and document, (pairs,), and count the pairs of each number."""
    clusters = _clusters(pairs["query_key"])
    documents = pc.unique(pairs["document_id"])
    both = numbers(clusters, pc.unique(clusters)) * len(documents) + numbers(pairs["document_id"], documents)
    _, group, size = np.unique(both, return_inverse=True, return_counts=True)
    return group, size


def _with_pairs_of_siblings(judgments: pa.Table, ranks: pa.Table, priors: Floats) -> pa.Table:
    """Append the pairs of a query with the documents that only its siblings have judgments of."""
    keyed = judgments.select(_PAIR).append_column("cluster", _clusters(judgments["query_key"]))
    queries, documents = (keyed.select(["cluster", name]).group_by(["cluster", name]).aggregate([]) for name in _PAIR)
    every = queries.join(documents, "cluster", join_type="inner")
    missing = every.join(keyed.select(_PAIR), _PAIR, join_type="left anti").select(_PAIR)
    if not len(missing):
        return judgments
    count = len(missing)
    unseen = {"position": np.ones(count, np.int32), "shown": np.zeros(count), "clicks": np.zeros(count)}
    found = gather(pa.table({**{name: missing[name] for name in _PAIR}, **unseen}), ranks, len(priors) - 1)
    prior = priors[found.prior]
    known = {
        **{name: found.names[name] for name in _PAIR},
        "grade": prior,
        "prior": prior,
        "source": pa.repeat("clicks", count),
        **{one.name: pa.array([[]] * count, one.type) for one in judgments.schema if pa.types.is_list(one.type)},
    }
    nothing = pa.array(np.zeros(count))
    added = pa.table({name: known.get(name, nothing) for name in judgments.column_names}).cast(judgments.schema)
    return pa.concat_tables([judgments, added]).sort_by([(name, "ascending") for name in _PAIR])


def _clusters(query_keys: pa.ChunkedArray) -> pa.ChunkedArray:
    keys = query_keys.combine_chunks().dictionary_encode()
    clusters = pa.array([cluster_key(key) for key in keys.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([clusters.take(keys.indices)])
