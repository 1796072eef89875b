"""
The oracle: the same miner and trainer, fed with every train judgment instead of clicks; what could be had at best.

In:  pairs of the train qrels of a data set. Out: its runs on the test queries.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from relevanced.daemon.documents import document_text
from relevanced.daemon.exact_runs import Run, rank_exactly
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import query_key
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.truth import Pair
from relevanced.daemon.teaching import taught, triplets_of
from relevanced.daemon.wiring import Parts


def oracle_runs(
    parts: Parts,
    pairs: Collection[Pair],
    views: Sequence[Dataset],
    directory: Path,
    progress: Progress,
) -> list[Run]:
    """
    Train on what is true and rank, for each view of the data set, its documents for its test queries.

    Args:
        pairs: what is taught.
        views: the last is the whole data set.
        directory: where the model goes.
    """
    dataset = views[-1]
    anchors = {query_key(text): text for text in dataset.train_queries.values()}
    encoder = taught(parts.stages, triplets_of(parts.stages, pairs, anchors, progress), directory, progress)
    vectors = encoder.encode_documents([document_text(one.title, one.text) for one in dataset.documents])
    names = [one.document_id for one in dataset.documents]
    runs = []
    for view in views:
        known = {one.document_id for one in view.documents}
        places = [place for place, name in enumerate(names) if name in known]
        runs.append(rank_exactly(encoder, view.test_queries, [names[place] for place in places], vectors[places]))
    return runs
