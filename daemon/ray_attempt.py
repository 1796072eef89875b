"""
One attempt at a training on one worker: what goes there, what is heard meanwhile, and what comes back.

In:  the job, and an actor of ray_worker.Worker. Out: lines for the parent, and the files of the job's directory.
Each new checkpoint comes back while the trainer goes on, so that any worker can take the job up from there.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, TextIO

import ray
from ray.exceptions import RayError

from relevanced.daemon.errors import Retry
from relevanced.daemon.files import whole_file
from relevanced.daemon.ray_worker import ARRIVING, PART_BYTES, TRAINING, TRIPLETS, Heard
from relevanced.daemon.training import CHECKPOINT, JOB, MODEL, RESULT, TrainingJob

_LISTEN_SECONDS: Final = 0.5  # a stop waits so long for the worker's ear
_CLEAR_SECONDS: Final = 10.0
_PARTIAL: Final = f"{MODEL}.partial"


class Parent:
    """The process that hears of the attempt, and may stop it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.stopping = False
        self.place = ""  # of the training, for people

    def stop_soon(self, *_signal: object) -> None:
        """Let the trainer write a checkpoint, which comes back; the handler of SIGTERM."""
        self.stopping = True

    def heed_stop(self) -> None:
        """Raise Retry where there is no trainer yet that could be stopped."""
        if self.stopping:
            raise Retry("Training was asked to stop before it began on a Ray worker.")

    def tell(self, line: Mapping[str, Any]) -> None:
        self.forward(json.dumps(line) + "\n")

    def say(self, doing: str, done: int, total: int) -> None:
        self.tell({"doing": doing, "done": done, "total": total})

    def forward(self, line: str) -> None:
        """Pass a line of the trainer on."""
        told = json.loads(line)
        if "step" in told:
            self.place = f"step {told['step']} of {told['steps']}"
        self._out.write(line)
        self._out.flush()

    def log(self, said: bytes) -> None:
        """Append to the job's log, which the parent has made our stderr."""
        sys.stderr.buffer.write(said)
        sys.stderr.buffer.flush()


class Attempt:
    """A job and the worker that does it, until the end of a with block."""

    def __init__(self, job: TrainingJob, worker: Any, host: str, parent: Parent) -> None:
        self._job, self._worker, self._host, self._parent = job, worker, host, parent
        self._back: int | None = None  # the checkpoint that is here too, by its time on the worker

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(RayError, ConnectionError):  # a worker that is lost needs no clearing
            ray.get(self._worker.clear.remote(), timeout=_CLEAR_SECONDS)

    def send(self) -> None:
        """Send what the worker lacks, and let the trainer begin."""
        job, worker = self._job, self._worker
        base = {str(file.relative_to(job.base)): file for file in job.base.rglob("*") if file.is_file()}
        hashes = {name: _sha256(file) for name, file in base.items()}
        lacking = set(ray.get(worker.lacks.remote(sorted(set(hashes.values())))))
        files = {f"{ARRIVING}/{hashes[name]}": file for name, file in base.items() if hashes[name] in lacking}
        files[TRIPLETS] = job.triplets
        if (job.directory / CHECKPOINT).exists():
            files[f"{TRAINING}/{CHECKPOINT}"] = job.directory / CHECKPOINT
        total, done = sum(file.stat().st_size for file in files.values()), 0
        for name, file in files.items():
            for part in _parts(file):
                self._parent.heed_stop()
                ray.get(worker.take.remote(name, part))
                done += len(part)
                self._parent.say(f"Sending to {self._host}", done, total)
        text = (job.directory / JOB).read_text(encoding="utf-8")
        self._back = ray.get(worker.start.remote(text, hashes))

    def follow(self) -> int:
        """
        Pass on what is said until the trainer has ended, then bring back what it left.

        Returns: its exit status, negative when a signal has ended it.
        """
        under_way: int | None = None
        transfer: Iterator[None] | None = None
        told = False
        while True:
            if self._parent.stopping and not told:
                ray.get(self._worker.stop.remote())
                told, transfer = True, None  # a newer checkpoint is about to be written
            if transfer and next(transfer, "end") == "end":
                self._back, transfer = under_way, None
            heard = self._listen(0.0 if transfer else _LISTEN_SECONDS)
            if heard.status is not None:
                self._bring_back(without_checkpoint=heard.checkpoint == self._back)
                return heard.status
            if not transfer and not told and heard.checkpoint not in (None, self._back):
                under_way, transfer = heard.checkpoint, self._fetch(CHECKPOINT, self._job.directory / CHECKPOINT)

    def _listen(self, seconds: float) -> Heard:
        heard: Heard = ray.get(self._worker.listen.remote(seconds))
        self._parent.log(heard.log)
        for line in heard.lines:
            self._parent.forward(line)
        return heard

    def _fetch(self, name: str, file: Path) -> Iterator[None]:
        """Bring a file of the training back, a part at a time; after the last one it stands in its place."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial, partial.open("wb") as opened:
            ray.get(self._worker.open.remote(name))
            while len(part := ray.get(self._worker.read.remote())) == PART_BYTES:
                opened.write(part)
                yield
            opened.write(part)

    def _bring_back(self, *, without_checkpoint: bool) -> None:
        """Leave the directory as the trainer leaves its own: the model, then the result, then no checkpoint."""
        directory = self._job.directory
        left: dict[str, int] = ray.get(self._worker.left.remote())
        if without_checkpoint:
            left.pop(CHECKPOINT, None)
        for name in (MODEL, _PARTIAL):
            shutil.rmtree(directory / name, ignore_errors=True)
        total, done = sum(left.values()), 0
        for name in sorted(left, key=lambda name: name == RESULT):
            if name == RESULT:
                (directory / _PARTIAL).rename(directory / MODEL)
            for _ in self._fetch(name, directory / name.replace(f"{MODEL}/", f"{_PARTIAL}/", 1)):
                pass
            done += left[name]
            self._parent.say(f"Fetching from {self._host}", done, total)
        if RESULT in left:
            (directory / CHECKPOINT).unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _parts(file: Path) -> Iterator[bytes]:
    """Yield the file in parts; an empty one has one part."""
    with file.open("rb") as opened:
        while len(part := opened.read(PART_BYTES)) == PART_BYTES:
            yield part
        yield part
