"""
A trained version made once more, from the log as of its snapshot, to see whether it comes out the same.

In:  a version's manifest, the log, what its cycle was given beside the log. Out: an Outcome, accepted where the
triplets are the same and so are the weights, or on a GPU the ranks. All of it happens in a temporary directory; no
version is registered, and nothing that serves is written to.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import tenacity

from relevanced.daemon.arms import Arm, runs_of
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.errors import Retry
from relevanced.daemon.judged_queries import held_out_queries
from relevanced.daemon.metrics import ndcg_at_10, weighted_mean
from relevanced.daemon.mining import mine_again
from relevanced.daemon.model_store import hashes
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Outcome, Version
from relevanced.daemon.reproducible import Made, made_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.training import TrainingJob, TrainingResult, train

CLOSE: Final = 0.002  # NDCG@10 between two trainings on a GPU, whose sums have no fixed order
_ATTEMPTS: Final = 3  # of the training, which goes on from its checkpoint
_COMPARED: Final = ("triplet_id", "weight", "positive", "negatives")


@dataclass(frozen=True, slots=True)
class Remade:
    """What came out this time, in a directory that is laid out as that of the cycles."""

    root: Path
    cycle_id: int
    triplets_sha256: str
    result: TrainingResult | None = None  # None: other triplets than then, on which nothing was trained

    @property
    def files(self) -> Path:
        """Where the triplets and the holdout lie."""
        return self.root / str(self.cycle_id)

    @property
    def model(self) -> Path:
        return self.root / "model"


def reproduce(stages: Stages, version: Version, progress: Progress) -> Outcome:
    """
    Mine and train a version once more, and compare.

    Returns: accepted when the same came out, rejected when not; the sentence says what differs.
    Raises: BadInput when it cannot be tried; FailStep when the training fails.
    """
    made = made_of(stages, version)
    with TemporaryDirectory(prefix="relevanced-reproduce-") as folder:
        remade = make_again(stages, made, Path(folder), progress)
        return compared(stages, version, made, remade, progress)


def make_again(stages: Stages, made: Made, root: Path, progress: Progress) -> Remade:
    """
    Mine, and where the triplets are the same, train as the manifest says.

    Args:
        root: an empty directory, for all that comes of it.
    Raises: FailStep when the training fails; BadInput when the weights may differ and no query can tell how much.
    """
    (root / str(made.cycle_id)).mkdir()
    progress("Mining again", 0, 1)
    digest = mine_again(stages.log_store, made.snapshot_id, made.mined_with, root / str(made.cycle_id))
    progress("Mining again", 1, 1)
    remade = Remade(root, made.cycle_id, digest)
    if digest != made.triplets_sha256:
        return remade
    recipe = replace(made.recipe, runner="local")
    if made.bit_for_bit:
        recipe = replace(recipe, threads=made.threads, processes=made.processes)
    else:
        _held_out(stages, remade)  # rather than after hours of training
    job = TrainingJob(
        base=made.base,
        triplets=remade.files / "triplets.parquet",
        directory=root / "training",
        output=remade.model,
        policy=recipe,
    )
    attempts = tenacity.Retrying(  # killed by the system, it goes on from its checkpoint
        retry=tenacity.retry_if_exception_type(Retry), stop=tenacity.stop_after_attempt(_ATTEMPTS), reraise=True
    )
    return replace(remade, result=attempts(train, job, progress))


def compared(stages: Stages, version: Version, made: Made, remade: Remade, progress: Progress) -> Outcome:
    """Hold what came out this time against the version."""
    numbers: dict[str, Any] = {
        "version": version.version_id,
        "triplets_sha256": {"then": made.triplets_sha256, "now": remade.triplets_sha256},
    }
    result = remade.result
    if result is None:
        return _not(version, f"its triplets differ: {_other_triplets(stages, made, remade.files)}", numbers)
    now = {name: digest for name, digest in hashes(remade.model).items() if name in made.weights}
    different = sorted(name for name in made.weights if made.weights[name] != now.get(name))
    numbers |= {"device": result.device_name, "threads": result.threads, "seconds": result.seconds}
    numbers |= {"different_weights": different}
    found = f"the same {result.triplets:,} triplets came out of snapshot {made.snapshot_id}"
    if not different:
        sentence = f"Reproduced version {version.version_id}: {found}, and of them the same weights, bit for bit."
        return Outcome(sentence, {**numbers, "reproduced": True}, "accepted")
    if made.bit_for_bit:
        return _not(version, f"{found}, but other weights in {', '.join(different)}{_why(made, result)}", numbers)
    judged = _held_out(stages, remade)
    then_now = _ranked_by_both(stages, version, judged, remade, progress)
    numbers |= {"ndcg@10": dict(zip(("then", "now"), then_now, strict=True)), "held_out_queries": len(judged.qrels)}
    then, again = then_now
    figures = (
        f"NDCG@10 on {len(judged.qrels):,} held-out queries is {again:.4f}, and the version's {then:.4f}; their weights"
        " differ, as they may where a GPU computes"
    )
    if abs(again - then) > CLOSE:
        return _not(version, f"{found}, but {figures}, and {CLOSE} apart would do", numbers)
    sentence = f"Reproduced version {version.version_id}: {found}, and {figures}."
    return Outcome(sentence, {**numbers, "reproduced": True}, "accepted")


def _held_out(stages: Stages, remade: Remade) -> JudgedQueries:
    """
    Take the holdout of the version's own cycle, as it was mined again.

    Raises: BadInput when no query of it has a relevant document.
    """
    max_weight = stages.gate.max_query_weight
    return held_out_queries(remade.root, remade.cycle_id, k=stages.privacy.k, max_weight=max_weight)


def _ranked_by_both(
    stages: Stages, version: Version, judged: JudgedQueries, remade: Remade, progress: Progress
) -> tuple[float, float]:
    """NDCG@10 of the version and of what came out, over the documents of today; no version's table is written to."""
    stages.models.write_manifest(remade.model, {"reproduces": version.version_id})
    then, now = stages.models.open(version.directory), stages.models.open(remade.model)
    arms = (
        Arm(name=f"version {version.version_id}", fingerprint=then.fingerprint, encoder=then),
        Arm(name="its reproduction", fingerprint=now.fingerprint, encoder=now),
    )
    first, second = (
        weighted_mean(ndcg_at_10(judged.qrels, run), judged.weights) or 0.0
        for run in runs_of(stages, arms, judged, progress)
    )
    return first, second


def _not(version: Version, why: str, numbers: Mapping[str, Any]) -> Outcome:
    sentence = f"Did not reproduce version {version.version_id}: {why}."
    return Outcome(sentence, {**numbers, "reproduced": False}, "rejected")


def _other_triplets(stages: Stages, made: Made, files: Path) -> str:
    """Say what is different about them, as far as those of then are there."""
    now = pq.read_table(files / "triplets.parquet", columns=list(_COMPARED)).to_pylist()
    counted = f"{len(now):,} came out of snapshot {made.snapshot_id} now"
    try:
        file = stages.directory / str(made.cycle_id) / "triplets.parquet"
        then = pq.read_table(file, columns=list(_COMPARED)).to_pylist()
    except (OSError, pa.ArrowException):
        return f"{counted}, {made.triplets:,} did then"
    return f"{counted}, {len(then):,} did then; {_difference(then, now)}"


def _difference(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    before, after = ({row["triplet_id"]: row for row in rows} for rows in (then, now))
    both = before.keys() & after.keys()
    counts = Counter(
        "weight" if before[name]["weight"] != after[name]["weight"] else "texts"
        for name in both
        if before[name] != after[name]
    )
    said = [
        f"{count:,} {words}"
        for count, words in (
            (len(before.keys() - both), "are missing"),
            (len(after.keys() - both), "are new"),
            (counts["weight"], "have another weight"),
            (counts["texts"], "have other texts"),
        )
        if count
    ]
    return " and ".join(said) or "they are alike but for their order or what is noted of them"


def _why(made: Made, result: TrainingResult) -> str:
    """Say where the two trainings part, and what disturbed either."""
    numbers = result.numbers()
    pairs = zip(made.losses, numbers["losses"], strict=False)
    first = next((place for place, (then, now) in enumerate(pairs) if then != now), None)
    every = -(-result.steps // max(len(numbers["losses"]), 1))
    parted = "; their losses are the same" if first is None else f"; their losses part at step {first * every + 1:,}"
    remarks = [*made.remarks, *result.remarks]
    return f"{parted}. {' '.join(remarks).removesuffix('.')}" if remarks else parted
