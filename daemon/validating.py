"""
The validation part: training queries that measure instead of teaching, so that training knows when to stop.

In:  triplets. Out: which of them teach, and how well the model ranks for the others. Never the holdout: what is chosen
by these queries is judged by those.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from relevanced.daemon.batches import Triplets
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.queries import cluster_key

_MOST_QUERIES: Final = 500
_MOST_DOCUMENTS: Final = 2000  # ranked, those that answer among them; more cost more than they tell
_SALT: Final = " /validation"  # so that the hash does not draw as the holdout's has drawn

Embed = Callable[[Sequence[int]], npt.NDArray[np.float32]]  # numbers of texts -> their unit vectors


def parted(triplets: Triplets, share: float) -> tuple[list[int], list[int]]:
    """
    Part triplets by a hash of their query's cluster, so that near-duplicates are on one side.

    Returns: the places of those that teach, and of those that measure; all teach where it would leave none.
    """
    policy = HoldoutPolicy(share=share)
    measure = [place for place, key in enumerate(triplets.keys) if is_held_out(cluster_key(key) + _SALT, policy)]
    if not share or not measure or len(measure) == len(triplets):
        return list(range(len(triplets))), []
    apart = set(measure)
    return [place for place in range(len(triplets)) if place not in apart], measure


class Validation:
    """The queries that measure, with the documents that are ranked for them."""

    def __init__(self, triplets: Triplets, places: Sequence[int]) -> None:
        qrels: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for place in places:
            if triplets.anchors[place] in qrels or len(qrels) < _MOST_QUERIES:
                qrels[triplets.anchors[place]][triplets.positives[place]] = 1.0
        answers = {document for row in qrels.values() for document in row}
        others = [one for one in range(len(triplets.documents)) if one not in answers]
        self.queries = list(qrels)
        self.documents = [*sorted(answers), *others[: max(_MOST_DOCUMENTS - len(answers), 0)]]
        self._qrels = {str(query): {str(one): grade for one, grade in row.items()} for query, row in qrels.items()}

    def measure(self, queries: Embed, documents: Embed) -> float:
        """Give the mean NDCG@10 of the queries over the documents."""
        return float(np.mean(self.by_query(queries, documents)))

    def by_query(self, queries: Embed, documents: Embed) -> list[float]:
        """Give the NDCG@10 of each query, in the order of `queries`."""
        scores = queries(self.queries) @ documents(self.documents).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        run = {
            str(query): {str(self.documents[column]): float(row[column]) for column in columns}
            for query, row, columns in zip(self.queries, scores, best, strict=True)
        }
        measured = ndcg_at_10(self._qrels, run)
        return [measured[str(query)] for query in self.queries]
