"""
The oracle: the same miner and trainer, fed with every train judgment instead of clicks; what could be had at best.

In:  pairs of the train qrels of a data set. Out: its runs on the test queries.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon import history
from relevanced.daemon.documents import document_text
from relevanced.daemon.exact_runs import Run, rank_exactly
from relevanced.daemon.mining import with_document_texts
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import query_key
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.truth import Pair
from relevanced.daemon.runs import run_of
from relevanced.daemon.training import TrainingJob, train
from relevanced.daemon.triplets import mine_triplets
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
    stages, dataset = parts.stages, views[-1]
    directory.mkdir(exist_ok=True)
    base = history.base_version(stages.database)
    anchors = {query_key(text): text for text in dataset.train_queries.values()}
    run = run_of(stages, base.version_id, anchors, progress)
    triplets = mine_triplets(_true_judgments(pairs), run, anchors, stages.triplets)
    pq.write_table(with_document_texts(stages, triplets), directory / "triplets.parquet")
    job = TrainingJob(
        base=base.directory,
        triplets=directory / "triplets.parquet",
        directory=directory / "training",
        output=directory / "model",
        policy=stages.training,
    )
    result = train(job, progress)
    stages.models.write_manifest(job.output, {"base": base.version_id, "training": result.numbers()})
    encoder = stages.models.open(job.output)
    vectors = encoder.encode_documents([document_text(one.title, one.text) for one in dataset.documents])
    names = [one.document_id for one in dataset.documents]
    runs = []
    for view in views:
        known = {one.document_id for one in view.documents}
        places = [place for place, name in enumerate(names) if name in known]
        runs.append(rank_exactly(encoder, view.test_queries, [names[place] for place in places], vectors[places]))
    return runs


def _true_judgments(pairs: Collection[Pair]) -> pa.Table:
    """Pairs that are relevant in the form of the judgments from clicks."""
    names, count = sorted(pairs), len(pairs)
    return pa.table(
        {
            "query_key": pa.array([key for key, _ in names], pa.string()),
            "document_id": pa.array([document_id for _, document_id in names], pa.string()),
            "grade": pa.array([1.0] * count),
            "weight": pa.array([1.0] * count),
            "shown": pa.array([0] * count, pa.int64()),
            "clicks": pa.array([0] * count, pa.int64()),
            "expected_clicks": pa.array([0.0] * count),
            "inclusion": pa.array([1.0] * count),
            "source": pa.array(["experts"] * count),
        }
    )
