"""
Drift: documents that arrive, and queries that begin to be typed, while the loop is at work.

In:  a data set, the share of it that is not there at first. Out: what is there in each cycle, a data set each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from relevanced.daemon.errors import BadInput
from relevanced.daemon.rehearsal.dataset import Dataset, within

_DRIFT: Final = 19  # beside the seed


def views(dataset: Dataset, share: float, cycles: int, seed: int) -> list[Dataset]:
    """
    Draw what comes later, evenly over the cycles after the first; the last view is the whole data set.

    A view's test queries are those whose relevant documents are all there. Its train queries are drawn apart from the
    documents: people also look for what is not there yet.

    Raises: BadInput where there is no later cycle, or nothing could be typed or measured in the first.
    """
    if not share:
        return [dataset] * cycles
    if cycles < 2:
        raise BadInput("What drifts arrives after the first cycle; give --cycles 2 or more beside --drift.")
    rng = np.random.default_rng([seed, _DRIFT])
    arrival = _arrivals([document.document_id for document in dataset.documents], share, cycles, rng)
    begin = _arrivals(list(dataset.train_queries), share, cycles, rng)
    found = [_view(dataset, arrival, begin, cycle) for cycle in range(cycles - 1)]
    if not found[0].test_queries or not found[0].train_queries:
        raise BadInput(f"With --drift {share:g} no query is left for the first cycle; lower it.")
    return [*found, dataset]


def _arrivals(names: Sequence[str], share: float, cycles: int, rng: np.random.Generator) -> dict[str, int]:
    """The cycle, from 0, from which on each is there."""
    drawn = rng.permutation(len(names))[: round(share * len(names))]
    late = {names[place]: 1 + number * (cycles - 1) // len(drawn) for number, place in enumerate(drawn.tolist())}
    return {name: late.get(name, 0) for name in names}


def _view(dataset: Dataset, arrival: Mapping[str, int], begin: Mapping[str, int], cycle: int) -> Dataset:
    documents = [document for document in dataset.documents if arrival[document.document_id] <= cycle]
    known = {document.document_id for document in documents}
    typed = {query_id: text for query_id, text in dataset.train_queries.items() if begin[query_id] <= cycle}
    test_qrels = within(dataset.test_qrels, known)
    return replace(
        dataset,
        documents=documents,
        train_queries=typed,
        test_queries={query_id: dataset.test_queries[query_id] for query_id in test_qrels},
        train_qrels={
            query_id: {name: score for name, score in dataset.train_qrels[query_id].items() if name in known}
            for query_id in typed
        },
        test_qrels=test_qrels,
    )
