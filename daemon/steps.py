"""
The six steps of a cycle, each as one function: which stages it calls and what it leaves.

In:  the cycle's row. Out: an Outcome. Between the steps only rows in Postgres and files in cycles/<id>/ are passed on,
so each may be killed and begun again: what it has left is either complete or made anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

import pyarrow.parquet as pq
import structlog

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.adapting import train_adapter_version
from relevanced.daemon.approval import ask
from relevanced.daemon.contest import gate
from relevanced.daemon.cycle import StepFunction, cycle_of
from relevanced.daemon.errors import FailStep
from relevanced.daemon.general import general_set
from relevanced.daemon.mined_with import settings_mined_with
from relevanced.daemon.mining import mine
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Cycle, Outcome, Step, Version
from relevanced.daemon.replay import lesson_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.training import TrainingJob, train, triplets_sha256
from relevanced.daemon.tryout import begin_trial, observe, trials

log = structlog.get_logger(__name__)


def steps_of(stages: Stages) -> Mapping[Step, StepFunction]:
    """The steps by name, ready for cycle.run_cycle."""
    return {name: partial(work, stages) for name, work in _STEPS.items()}


def train_candidate(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """
    Fine-tune in a child process, the base model on all history or as [training] says; the finished directory becomes
    the candidate's.

    Where [adapter] mode is first, live is taught an adapter before: that takes seconds, and is done anew by an attempt.
    """
    general_set(stages)  # what is wrong with it shall be said before hours of training
    lesson = lesson_of(stages, cycle, progress)
    if lesson is None:
        return Outcome(
            f"Fewer than {stages.min_triplets} triplets are new to the live version, so this cycle ends here.",
            verdict="nothing",
        )
    triplets = _triplets_by_source(stages, cycle)
    wanted = stages.adapter.mode == "first"
    adapter = train_adapter_version(stages, cycle, triplets, progress) if wanted else None
    version_id = _candidate_id(stages, cycle)
    base = history.base_version(stages.database)
    files = stages.files(cycle)
    policy, found = stages.tuned.over(stages.training)
    job = TrainingJob(
        base=lesson.start.directory,
        triplets=lesson.triplets,
        directory=files / "training",
        output=stages.models.directory(version_id),
        policy=policy,
    )
    result = train(job, progress)
    mining = settings_mined_with(files)
    manifest = {
        "base": base.version_id,
        "trained_from": lesson.start.version_id,
        "parent": stages.promotion.serving().live_version_id,
        "snapshot_id": cycle.snapshot_id,
        "cycle_id": cycle.cycle_id,
        "triplets": triplets,
        "taught": {"new": lesson.new, "replayed": lesson.replayed},
        "triplets_sha256": triplets_sha256(job),
        **({"mining": mining} if mining else {}),
        "recipe": asdict(policy),
        "recipe_from": found.origin if found else None,
        "training": result.numbers(),
        "cost": {"training": result.device_seconds},
    }
    stages.models.write_manifest(job.output, manifest)
    encoder = stages.models.open(job.output)
    history.complete_version(stages.database, version_id, job.output, encoder.fingerprint, encoder.dimension, manifest)
    replayed = f", {lesson.replayed:,} of them replayed," if lesson.replayed else ""
    sentence = (
        f"Trained candidate {version_id} from {lesson.begins} on {result.triplets:,} triplets{replayed}"
        f" in {result.seconds:.0f} s{f', by {found.origin}' if found else ''}."
    )
    if adapter:
        return Outcome(f"{adapter.sentence} {sentence}", {**result.numbers(), "adapter": adapter.numbers})
    return Outcome(sentence, result.numbers())


def prepare(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """Build the candidate's index beside the live one."""
    candidate = _candidate(stages, cycle)
    return stages.index.prepare(candidate.version_id, stages.models.open(candidate.directory), progress)


def verify(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """Check the candidate's index against the documents, the model and exact search."""
    candidate = _candidate(stages, cycle)
    if candidate.state == "rejected":
        sentence = f"Rejected version {candidate.version_id} already, before this attempt at the step."
        return Outcome(sentence, verdict="rejected")
    held_out = pq.read_table(stages.files(cycle) / "holdout.parquet", columns=["user_query"])
    user_queries = sorted(set(held_out["user_query"].to_pylist()))
    progress("Verifying the index", 0, 1)
    return verify_version(stages, candidate, user_queries)


def verify_version(stages: Stages, version: Version, user_queries: Sequence[str]) -> Outcome:
    """
    Check the index of a version, and that it is not much slower than live.

    Raises: BadInput when it was not prepared, FailStep when its files are not as they were.
    """
    live_id, live = stages.promotion.serving().live_version_id, None
    if live_id not in (None, version.version_id):
        try:
            live = live_id, stages.models.open(history.version(stages.database, live_id).directory)
        except FailStep as error:  # what is broken is no measure, and the cure may be this version
            log.warning("The live version cannot be opened, so latency is not compared.", error=str(error))
    return stages.index.verify(version.version_id, stages.models.open(version.directory), user_queries, live)


def promote(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """
    Point serving at the candidate; where the gate could not decide, put it on trial; or let it wait for approval.

    Where a killed attempt has done either, it stays as it is: an operator may have undone it since.
    """
    candidate = _candidate(stages, cycle)
    progress("Promoting", 0, 1)
    actor = f"cycle {cycle.cycle_id}"
    for row in history.serving_history(stages.database):
        if (row["verb"], row["actor"], row["live_version_id"]) == ("promote", actor, candidate.version_id):
            return Outcome(f"Promoted version {candidate.version_id} in place of {row['previous_version_id']}.")
    gate_row = next(row for row in history.steps(stages.database, cycle.cycle_id) if row["step"] == "gate")
    if gate_row["verdict"] == "trial":
        if any(row["other_version_id"] == candidate.version_id for row in trials(stages.database)):
            return Outcome(f"Version {candidate.version_id} was put on trial.", verdict="trial")
        return begin_trial(stages, candidate.version_id, "promotion")
    if stages.gate.approval == "manual":
        return ask(stages, candidate.version_id, gate_row["sentence"])
    reason = gate_row["sentence"]
    outcome = stages.promotion.promote(candidate.version_id, actor=actor, reason=reason, progress=progress)
    return Outcome(outcome.sentence + observe(stages), outcome.numbers)


_STEPS: Final[Mapping[Step, Callable[[Stages, Cycle, Progress], Outcome]]] = {
    "mine": mine,
    "train": train_candidate,
    "gate": gate,
    "index": prepare,
    "verify": verify,
    "promote": promote,
}


def _candidate(stages: Stages, cycle: Cycle) -> Version:
    if cycle.candidate_version_id is None:
        raise FailStep(f"Cycle {cycle.cycle_id} has no candidate; begin another with `relevanced cycle run`.")
    return history.version(stages.database, cycle.candidate_version_id)


def _candidate_id(stages: Stages, cycle: Cycle) -> int:
    """The candidate's number: taken and noted in one transaction, so that no attempt leaves an orphan."""
    noted = cycle_of(stages.database, cycle.cycle_id).candidate_version_id
    if noted is not None:
        return noted
    with stages.database.connection() as connection:
        version_id = history.register_version(connection, stages.promotion.serving().live_version_id)
        connection.execute(sql.postgres["note_candidate"], {"cycle_id": cycle.cycle_id, "version_id": version_id})
    return version_id


def _triplets_by_source(stages: Stages, cycle: Cycle) -> dict[str, int]:
    sources = pq.read_table(stages.files(cycle) / "triplets.parquet", columns=["source"])["source"]
    return {row["values"]: row["counts"] for row in sources.value_counts().to_pylist()}
