"""
Training, as the daemon sees it: a child process that turns a model and triplets into another model.

In:  a TrainingJob: the base model's directory, triplets.parquet (anchor, positive, negatives, query_key, weight).
Out: the new model's directory, which appears complete, by rename; adopted by the model store.
The child (trainer.py) dies with this process, speaks JSON lines on its stdout, and goes on from its last checkpoint
when the same job is given again. A job that was done is not done again. A runner is a child that keeps this contract:
trainer.py trains here; ray_runner.py lets the same trainer work elsewhere, and the job's directory looks the same.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.files import write_text
from relevanced.daemon.ports import Progress
from relevanced.daemon.recipe import TrainingPolicy

log = structlog.get_logger(__name__)

# What the child leaves in the job's directory; trainer.py writes them.
JOB: Final = "job.json"
CHECKPOINT: Final = "checkpoint.pt"
RESULT: Final = "result.json"
MODEL: Final = "model"
LOG: Final = "stderr.log"
BAD_BATCH: Final = "bad_batch.json"  # the triplets of a step whose loss was no number
KILLED: Final = "killed"  # how often the system has killed the child; training.py writes it

# The child's exit statuses, from sysexits.h; any other is a crash.
CANNOT: Final = 65  # it said why in a line {"error": sentence}
STOPPED: Final = 75  # SIGTERM: the checkpoint is written; or it said why in a line {"retry": sentence}
CRASHED: Final = 70  # a fault of a runner's own
_CLUSTER_LOST: Final = (1, -signal.SIGABRT)  # Ray ends its process itself a minute after the head of a cluster is gone

# Threads that wait shall not spin: two processes on two cores then train 4 times as fast. No model is fetched. oneDNN
# keeps a megabyte for each of the last 1,024 shapes of a product, and no batch has the shapes of another: after 300
# parts of batches MiniLM's process had 3.4 GiB, with 64 shapes 2.1, in as much of a core's time.
ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "HF_HUB_OFFLINE": "1",
}

_MODULES: Final = {"local": "relevanced.daemon.trainer", "ray": "relevanced.daemon.ray_runner"}
_COLUMNS: Final = ("anchor", "positive", "negatives", "query_key", "weight")
# Seconds for the step under way and its checkpoint, which may have a way to go, when training is interrupted; the
# systemd unit gives 90 to all.
_PATIENCE: Final = {"local": 30, "ray": 75}


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
        policy: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in fields["policy"].items()
        }
        return cls(**paths, policy=TrainingPolicy(**policy))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What training did; `seconds` are those of its steps, over all attempts."""

    triplets: int  # that taught
    steps: int
    seconds: float
    losses: Sequence[float]  # of each step
    validations: Sequence[tuple[int, float]]  # step, and NDCG@10 on the validation part; none without one
    tokens: int  # that went through the model, without padding
    device: str  # cpu or cuda
    processes: int
    remarks: Sequence[str]
    # None of what an older release has left.
    device_name: str | None = None  # cpu, or the GPU's, such as NVIDIA H200
    threads: int | None = None  # of each process; on a CPU as many give the same bits
    cpu_kind: str | None = None  # instructions of the CPU that trained, which the last bits depend on

    def numbers(self) -> Mapping[str, Any]:
        """For the manifest and the dashboard; the losses in at most 100 points."""
        every = -(-len(self.losses) // 100)
        return {**asdict(self), "losses": list(self.losses[::every]), "last_loss": self.losses[-1]}

    @property
    def device_seconds(self) -> Mapping[str, float]:
        """Seconds of each device: of several GPUs each counts, while the processes of a CPU share one."""
        gpus = self.processes if self.device == "cuda" else 1
        return {self.device_name or self.device: round(self.seconds * gpus, 3)}


def train(
    job: TrainingJob, progress: Progress, validated: Callable[[float, float], None] = lambda _share, _ndcg: None
) -> TrainingResult:
    """
    Train in a child process until the model is complete, or return the result of an earlier call.

    An exception out of a listener, or Ctrl-C, lets the child write a checkpoint and end before it goes on upwards.
    Args:
        validated: hears each measurement: the share of the training that is done, in (0, 1], and NDCG@10 on the
            validation part; those since the last checkpoint once more after a kill.
    Raises: FailStep when this job cannot succeed; Retry when the child was stopped or killed.
    """
    wanted = job.to_json(_digest(job))
    if _identity(_read(job.directory / JOB)) != _identity(wanted):
        shutil.rmtree(job.directory, ignore_errors=True)
        job.directory.mkdir(parents=True)
    write_text(job.directory / JOB, wanted)
    if not _is_done(job):
        _run_child(job, progress, validated)
    if (job.directory / MODEL).exists():
        shutil.rmtree(job.output, ignore_errors=True)
        job.output.parent.mkdir(parents=True, exist_ok=True)
        (job.directory / MODEL).rename(job.output)
    return TrainingResult(**json.loads((job.directory / RESULT).read_text()))


def triplets_sha256(job: TrainingJob) -> str:
    """Give the digest of the triplets that a job was begun with."""
    return str(json.loads((job.directory / JOB).read_text())["triplets_sha256"])


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


def _identity(text: str | None) -> Any:
    """What makes a job the same: all but where it runs, so that one begun here may go on elsewhere, and back."""
    if text is None:
        return None
    fields = json.loads(text)
    what = {name: value for name, value in fields["policy"].items() if name != "runner" and name[:4] != "ray_"}
    return {**fields, "policy": what}


def _is_done(job: TrainingJob) -> bool:
    return (job.directory / RESULT).exists() and ((job.directory / MODEL).exists() or job.output.exists())


def _run_child(job: TrainingJob, progress: Progress, validated: Callable[[float, float], None]) -> None:
    runner = job.policy.runner
    if runner == "ray" and find_spec("ray") is None:
        raise FailStep("[training] runner is ray, and Ray is not installed here; pip install 'relevanced[ray]'.")
    command = [sys.executable, "-m", _MODULES[runner], str(job.directory), str(os.getpid())]
    progress("Preparing to train", 0, 1)
    # A session of its own, so that Ctrl-C in the terminal comes to this process alone, which ends the child cleanly.
    with (
        (job.directory / LOG).open("wb") as log,
        subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            last = _listen(child, job, progress, validated)
            status = child.wait()
        except BaseException:
            _end(child, _PATIENCE[runner])
            raise
    if status != 0:
        raise _failure(job, status, last)


def _listen(
    child: "subprocess.Popen[str]", job: TrainingJob, progress: Progress, validated: Callable[[float, float], None]
) -> dict[str, Any]:
    """
    Forward what the child says until it closes its stdout; returns its last line about the training.

    Raises: Retry when it has said nothing for too long; it is killed then, since it may not hear of anything.
    """
    line: dict[str, Any] = {}
    for told in _lines(child, job.policy.silence_seconds):
        if told is None:
            child.kill()
            silence = f"Training said nothing for {job.policy.silence_seconds:g} s near {_place(line)} and was ended"
            raise Retry(f"{silence}; it goes on from its checkpoint.")
        if "remark" in told:
            log.warning(told["remark"])
        elif "doing" in told:  # what is done around the steps
            progress(told["doing"], told["done"], told["total"])
        elif "validated" in told:
            progress("Validating", 1, 1)
            validated(told["share"], told["validated"])
        else:
            if not line:
                progress("Preparing to train", 1, 1)
            line = told
            if "step" in line:
                progress("Training", line["step"], line["steps"], _detail(line))
    return line


def _lines(child: "subprocess.Popen[str]", patience: float) -> Iterator[dict[str, Any] | None]:
    """Yield each line that the child says; None where none came for so many seconds."""
    assert child.stdout is not None  # it was asked for
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read(stream: IO[str]) -> None:
        for text in stream:
            said.put(text)
        said.put(None)

    threading.Thread(target=read, args=(child.stdout,), name="training", daemon=True).start()
    while True:
        try:
            text = said.get(timeout=patience)
        except queue.Empty:
            yield None
            return
        if text is None:
            return
        yield json.loads(text)


def _detail(line: Mapping[str, Any]) -> str:
    if "loss" not in line:
        return ""
    return f"loss {line['loss']:.3f}, {line['triplets_per_s']:,.0f} triplets/s, {line['seconds_left']:,.0f} s left"


def _place(last: Mapping[str, Any]) -> str:
    return f"step {last['step']} of {last['steps']}" if "step" in last else "its first step"


def _end(child: "subprocess.Popen[str]", patience: float) -> None:
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()


def _failure(job: TrainingJob, status: int, last: Mapping[str, Any]) -> FailStep | Retry:
    if status == CANNOT and "error" in last:
        return FailStep(last["error"])
    if status == STOPPED and "retry" in last:
        return Retry(last["retry"])
    place = _place(last)
    if status == STOPPED:
        return Retry(f"Training was asked to stop at {place}; it goes on from there.")
    if status == -signal.SIGKILL:
        times = int(_read(job.directory / KILLED) or 0) + 1
        write_text(job.directory / KILLED, str(times))
        remedy = f"goes on from its checkpoint with {2**times} times less kept in memory"
        return Retry(f"Training was killed near {place}, as by a system out of memory; it {remedy}.")
    if status == -signal.SIGTERM:
        return Retry(f"Training was killed near {place}; it goes on from its checkpoint.")
    said = (_read(job.directory / LOG) or "").strip().splitlines()
    reason = said[-1] if said else "it said nothing"
    if job.policy.runner == "ray" and status in _CLUSTER_LOST:
        return Retry(f"Training lost its Ray cluster near {place}, and goes on from its checkpoint: {reason}")
    return FailStep(f"Training ended near {place} with status {status}: {reason} ({job.directory / LOG} has the rest).")


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
