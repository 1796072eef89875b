"""
Queries that ask nearly the same, by their words.

In:  query_keys. Out: for each the others that share most of its stems; read by mining, which lets no document be a
negative of a query that may well answer one near it. The holdout asks for less, equal stems alone: what is near to what
is near may be far, so nearness makes no clusters.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
from scipy import sparse

from relevanced.daemon.pairs import Integers
from relevanced.daemon.queries import cluster_key

_AT_ONCE: Final = 1000  # sets compared with all others; bounds the memory
_ROUNDING: Final = 1e-9  # .6 of 5 stems is 3, and not the 3.0000000000000004 that floats make of some


def near_queries(query_keys: Collection[str], min_similarity: float) -> dict[str, list[str]]:
    """
    Find all pairs of queries whose stems have a Jaccard similarity of at least `min_similarity`.

    Exact: MinHash would guess at the same and save little. The 41,775 names and synonyms of the Human Phenotype
    Ontology take 1.6 s on one core, of which .4 s are for their stems; 50,000 made up of far commoner words, 9 s.

    Args:
        min_similarity: in (0, 1]; at 1, equal stems.
    Returns: query_key -> the others near it, in order; a query that has none is left out.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for key in sorted(query_keys):
        members[cluster_key(key)].append(key)
    clusters = list(members)
    near = {cluster: list(keys) for cluster, keys in members.items()}
    for one, other in _near_sets(_incidence(clusters), min_similarity) if clusters else ():
        near[clusters[one]] += members[clusters[other]]
        near[clusters[other]] += members[clusters[one]]
    return {
        key: sorted(other for other in near[cluster] if other != key)
        for cluster, keys in members.items()
        if len(near[cluster]) > 1
        for key in keys
    }


def _incidence(clusters: Collection[str]) -> sparse.csr_matrix:
    """Which stems are in which set: int32 (sets, stems), of ones."""
    stems = [cluster.split() for cluster in clusters]
    names, places = np.unique(np.concatenate([np.array(words, dtype=object) for words in stems]), return_inverse=True)
    ends = np.cumsum([0, *map(len, stems)])
    return sparse.csr_matrix((np.ones(len(places), np.int32), places, ends), shape=(len(stems), len(names)))


def _near_sets(sets: sparse.csr_matrix, min_similarity: float) -> Iterator[tuple[int, int]]:
    """
    Yield the places of each pair of different sets that are near, once.

    Of two near sets each has one of its rarest stems among those of the other, so only sets that meet there are
    compared; common stems, which most sets have, are not even looked at.

    Source: Bayardo, Ma and Srikant, Scaling Up All Pairs Similarity Search, WWW 2007.
    """
    sizes = np.diff(sets.indptr).astype(np.int64)
    rarest = _rarest(sets, sizes - np.ceil(min_similarity * sizes - _ROUNDING).astype(np.int64) + 1)
    holders = rarest.T.tocsr()
    for start in range(0, len(sizes), _AT_ONCE):
        meet = (rarest[start : start + _AT_ONCE] @ holders).tocoo()
        one, other = meet.row.astype(np.int64) + start, meet.col.astype(np.int64)
        smaller, larger = np.minimum(sizes[one], sizes[other]), np.maximum(sizes[one], sizes[other])
        may_be = (one < other) & (smaller >= min_similarity * larger - _ROUNDING)
        one, other = one[may_be], other[may_be]
        common = np.asarray(sets[one].multiply(sets[other]).sum(axis=1)).ravel()
        are = common >= min_similarity * (sizes[one] + sizes[other] - common) - _ROUNDING
        yield from zip(one[are].tolist(), other[are].tolist(), strict=True)


def _rarest(sets: sparse.csr_matrix, how_many: Integers) -> sparse.csr_matrix:
    """Keep of each set its rarest stems; ties are broken alike in all sets."""
    frequency = np.asarray(sets.sum(axis=0)).ravel()
    order = np.argsort(np.argsort(frequency, kind="stable"), kind="stable")  # of each stem, the rarest first
    of_set = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    entries = np.lexsort((order[sets.indices], of_set))
    kept = np.arange(len(entries)) - sets.indptr[of_set] < how_many[of_set]
    stems = sets.indices[entries][kept]
    return sparse.csr_matrix((np.ones(len(stems), np.int32), (of_set[kept], stems)), shape=sets.shape)
