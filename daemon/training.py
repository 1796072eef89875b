"""
Training, as the daemon sees it: a child process that turns a model and triplets into another model.

In:  a TrainingJob: the base model's directory, triplets.parquet (anchor, positive, negatives, query_key, weight).
Out: the new model's directory, which appears complete, by rename; adopted by the model store.
The child (trainer.py) dies with this process, speaks JSON lines on its stdout, and goes on from its last checkpoint
when the same job is given again. A job that was done is not done again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge, Gt, Interval

from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.files import write_text
from relevanced.daemon.ports import Progress

# What the child leaves in the job's directory; trainer.py writes them.
JOB: Final = "job.json"
RESULT: Final = "result.json"
MODEL: Final = "model"
LOG: Final = "stderr.log"

# The child's exit statuses, from sysexits.h; any other is a crash.
CANNOT: Final = 65  # it said why in a line {"error": sentence}
STOPPED: Final = 75  # SIGTERM: the checkpoint is written

_COLUMNS: Final = ("anchor", "positive", "negatives", "query_key", "weight")
_PATIENCE: Final = 30  # seconds for the step under way and its checkpoint, when training is interrupted


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPolicy:
    """
    How a candidate is trained; the defaults were chosen on the Human Phenotype Ontology.

    There, of MiniLM on 1,200 documents, with 600 lay queries and their true documents, NDCG@10 of 200 other queries
    rose from .661 to .762 at a learning rate of 5e-5, .789 at 1e-4, .815 at 2e-4 and .826 at 3e-4; in two epochs, which
    take twice as long, to .821 at 1e-4 and .850 at 2e-4. With a wrong document in every fifth triplet it was .783 at
    1e-4, .799 at 2e-4, and .820 in two epochs. At 2e-4 in one epoch: temperature .02 gave .805, batches of 32 .814, no
    hard negative .805 and two of them .821 instead of one. One seed, and the queries that chose are those that
    measured: a difference of .02 says little.
    """

    batch_size: Annotated[int, Ge(2)] = 64  # triplets of one step; their documents are negatives of one another
    epochs: Annotated[int, Ge(1)] = 1  # 600 triplets take 45 s on 2 AVX2 cores; a second one pays, see above
    learning_rate: Annotated[float, Interval(gt=0, lt=1)] = 2e-4  # at its peak; models larger than MiniLM want less
    warmup_share: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # of all steps, rising to the peak; then falling to 0
    weight_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.01  # AdamW's
    temperature: Annotated[float, Interval(gt=0, le=1)] = 0.05  # of the softmax over cosines, as in SimCSE
    max_gradient_norm: Annotated[float, Gt(0)] = 1.0
    # Tokens of a step whose activations stay in memory, some 0.3 MB each for MiniLM and four times that for BERT-base;
    # what is over is computed twice: with nothing kept, 12.6 triplets a second instead of 15.4. A step of short texts
    # has 5,000.
    kept_tokens: Annotated[int, Ge(0)] = 8192
    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0  # what a kill costs at most, and a step
    threads: Annotated[int, Ge(1)] | None = None  # None: all cores
    seed: int = 0  # of the order of the triplets


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """One training: what goes in, where it works, and where the finished model appears."""

    base: Path  # the directory of the model that is trained on
    triplets: Path  # Parquet
    directory: Path  # the job's own: checkpoint, log, result
    output: Path  # replaced when another job has left it
    policy: TrainingPolicy

    def to_json(self, triplets_sha256: str) -> str:
        """Write the job down with the digest of its triplets: the same text means the same model."""
        return json.dumps({**asdict(self), "triplets_sha256": triplets_sha256}, default=str, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "TrainingJob":
        fields = json.loads(text)
        paths = {name: Path(fields[name]) for name in ("base", "triplets", "directory", "output")}
        return cls(**paths, policy=TrainingPolicy(**fields["policy"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What training did; `seconds` are those of its steps, over all attempts."""

    triplets: int
    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    tokens: int  # that went through the model, without padding
    device: str

    def numbers(self) -> Mapping[str, Any]:
        """For the manifest and the dashboard."""
        return asdict(self)


def train(job: TrainingJob, progress: Progress) -> TrainingResult:
    """
    Train in a child process until the model is complete, or return the result of an earlier call.

    An exception out of `progress`, or Ctrl-C, lets the child write a checkpoint and end before it goes on upwards.
    Raises: FailStep when this job cannot succeed; Retry when the child was stopped or killed.
    """
    wanted = job.to_json(_digest(job))
    if _read(job.directory / JOB) != wanted:
        shutil.rmtree(job.directory, ignore_errors=True)
        job.directory.mkdir(parents=True)
        write_text(job.directory / JOB, wanted)
    if not _is_done(job):
        _run_child(job, progress)
    if (job.directory / MODEL).exists():
        shutil.rmtree(job.output, ignore_errors=True)
        job.output.parent.mkdir(parents=True, exist_ok=True)
        (job.directory / MODEL).rename(job.output)
    return TrainingResult(**json.loads((job.directory / RESULT).read_text()))


def _digest(job: TrainingJob) -> str:
    """
    Look at what goes in before a process is started for it.

    Raises: FailStep when the model or the triplets are not there, or there are none.
    """
    if not job.base.is_dir():
        raise FailStep(f"The base model {job.base} is not there; `relevanced versions` lists the versions.")
    try:
        table = pq.ParquetFile(job.triplets)
        missing = [name for name in _COLUMNS if name not in table.schema_arrow.names]
    except (OSError, pa.ArrowException) as error:
        raise FailStep(f"The triplets in {job.triplets} cannot be read: {error}") from error
    if missing:
        raise FailStep(f"The triplets in {job.triplets} have no column {missing[0]}; mine them again.")
    if table.metadata.num_rows == 0:
        raise FailStep(f"There is no triplet in {job.triplets}; training waits for clicks.")
    with job.triplets.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _is_done(job: TrainingJob) -> bool:
    return (job.directory / RESULT).exists() and ((job.directory / MODEL).exists() or job.output.exists())


def _run_child(job: TrainingJob, progress: Progress) -> None:
    command = [sys.executable, "-m", "relevanced.daemon.trainer", str(job.directory), str(os.getpid())]
    # Threads that wait shall not spin: two processes on two cores then train 4 times as fast. No model is fetched.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "HF_HUB_OFFLINE": "1"}
    progress("Preparing to train", 0, 1)
    # A session of its own, so that Ctrl-C in the terminal comes to this process alone, which ends the child cleanly.
    with (
        (job.directory / LOG).open("wb") as log,
        subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            last = _listen(child, progress)
            status = child.wait()
        except BaseException:
            _end(child)
            raise
    if status != 0:
        raise _failure(job, status, last)


def _listen(child: "subprocess.Popen[str]", progress: Progress) -> dict[str, Any]:
    """Forward the child's steps until it closes its stdout; returns its last line."""
    line: dict[str, Any] = {}
    for text in child.stdout or ():
        if not line:
            progress("Preparing to train", 1, 1)
        line = json.loads(text)
        if "step" in line:
            progress("Training", line["step"], line["steps"])
    return line


def _end(child: "subprocess.Popen[str]") -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def _failure(job: TrainingJob, status: int, last: Mapping[str, Any]) -> FailStep | Retry:
    if status == CANNOT and "error" in last:
        return FailStep(last["error"])
    place = f"step {last['step']} of {last['steps']}" if "step" in last else "its first step"
    if status == STOPPED:
        return Retry(f"Training was asked to stop at {place}; it goes on from there.")
    if status in (-signal.SIGKILL, -signal.SIGTERM):
        return Retry(f"Training was killed near {place}, as by a system out of memory; it goes on from its checkpoint.")
    said = (_read(job.directory / LOG) or "").strip().splitlines()
    reason = said[-1] if said else "it said nothing"
    return FailStep(f"Training ended near {place} with status {status}: {reason} ({job.directory / LOG} has the rest).")


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
