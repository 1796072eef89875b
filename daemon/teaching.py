"""
A model taught on pairs that are known to be right, by the daemon's own miner and trainer.

In:  pairs of query and document. Out: an encoder, in a directory of the caller's; an upper bound for rehearsals, and
for assess what fine-tuning would bring.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon import history
from relevanced.daemon.judgments import beyond_doubt
from relevanced.daemon.mining import texts_of, with_document_texts
from relevanced.daemon.ports import Encoder, Progress
from relevanced.daemon.runs import run_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.training import TrainingJob, train
from relevanced.daemon.triplets import mine_triplets

Pair = tuple[str, str]  # query_key, document_id


def triplets_of(stages: Stages, pairs: Collection[Pair], anchors: Mapping[str, str], progress: Progress) -> pa.Table:
    """
    Mine triplets as a cycle does, as if each pair were judged relevant beyond doubt.

    Args:
        anchors: query_key -> its words, of the pairs at least.
    """
    run = run_of(stages, history.base_version(stages.database).version_id, anchors, progress)
    triplets = mine_triplets(beyond_doubt(pairs), run, anchors, stages.triplets)
    return with_document_texts(triplets, texts_of(stages, triplets))


def taught(stages: Stages, triplets: pa.Table, directory: Path, progress: Progress) -> Encoder:
    """
    Fine-tune the base model on triplets, as a cycle does.

    Args:
        directory: where the model and what training leaves go; the same work is not done twice there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(triplets, directory / "triplets.parquet")
    base = history.base_version(stages.database)
    job = TrainingJob(
        base=base.directory,
        triplets=directory / "triplets.parquet",
        directory=directory / "training",
        output=directory / "model",
        policy=stages.tuned.over(stages.training)[0],
    )
    result = train(job, progress)
    stages.models.write_manifest(job.output, {"base": base.version_id, "training": result.numbers()})
    return stages.models.open(job.output)
