"""
Training on the worker: the files of one attempt, and the trainer that works on them.

In:  the model, the triplets, the last checkpoint and the job, in parts. Out: the trainer's lines and its log, the
checkpoint as often as it is written, and what is left at the end, in parts; ray_runner.py makes an actor of this class
and asks. Each answer comes within a second or so. The base model stays on the worker, by its hash, for the next time.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from hashlib import file_digest
from importlib.metadata import version as installed_version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final, NamedTuple

from relevanced.daemon.files import write_text
from relevanced.daemon.training import BAD_BATCH, CHECKPOINT, ENVIRONMENT, JOB, LOG, MODEL, RESULT

# In the directory of an attempt, beside base/.
ARRIVING: Final = "arriving"  # files of the base model, by their hash, until they are complete
TRIPLETS: Final = "triplets.parquet"
TRAINING: Final = "training"  # where the trainer works

PART_BYTES: Final = 16 << 20  # of a file that travel at once
_KEPT_SECONDS: Final = 30 * 86400.0  # without use, before a base model's files go


class Heard(NamedTuple):
    """What there is to tell since the last time."""

    lines: list[str]  # of the trainer's stdout
    log: bytes  # of its stderr
    checkpoint: int | None  # when the newest one was written, in ns; None: there is none
    status: int | None  # None while it works


class Worker:
    """One attempt at a job, in a directory of its own; killed, it leaves that to the next attempt on this machine."""

    def __init__(self) -> None:
        scratch = _scratch()
        self._kept = scratch / "kept"
        self._kept.mkdir(exist_ok=True)
        _tidy(scratch, self._kept)
        made = Path(tempfile.mkdtemp(prefix="new-", dir=scratch))
        self._lock = _locked(made)  # before it has the name that _tidy looks for
        self._directory = made.rename(scratch / made.name.replace("new-", "job-"))
        for name in ("base", ARRIVING, TRAINING):
            (self._directory / name).mkdir()
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._child: subprocess.Popen[str] | None = None
        self._log: BinaryIO | None = None
        self._reading: BinaryIO | None = None

    def describe(self) -> tuple[str, str]:
        """Return the version of relevanced here, and this machine's name."""
        return installed_version("relevanced"), socket.gethostname()

    def lacks(self, sha256s: list[str]) -> list[str]:
        """Name the files of a base model that are not here, or not whole."""
        return [sha256 for sha256 in sha256s if not self._has(sha256)]

    def take(self, name: str, part: bytes) -> None:
        """Append to a file: arriving/SHA256 of the base model, the triplets, or training/checkpoint.pt."""
        with (self._directory / name).open("ab") as opened:
            opened.write(part)

    def start(self, job: str, base: Mapping[str, str]) -> int | None:
        """
        Begin, when everything is here.

        Args:
            job: job.json as it is where it was given.
            base: the files of the base model, path inside its directory -> sha256.
        Returns: the checkpoint it begins from, as in Heard.
        """
        for arrived in (self._directory / ARRIVING).iterdir():
            arrived.replace(self._kept / arrived.name)
        for name, sha256 in base.items():
            file = self._directory / "base" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._kept / sha256, file)
        write_text(self._training / JOB, _moved(job, self._directory))
        # Ray sets OMP_NUM_THREADS to the CPUs set aside; `threads` of the job's policy says how many the trainer uses.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        begins_from = self._checkpoint()
        with (self._training / LOG).open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "relevanced.daemon.trainer", str(self._training), str(os.getpid())],
                env={**environment, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._log = (self._training / LOG).open("rb")
        threading.Thread(target=self._read_lines, args=(self._child,), daemon=True).start()
        return begins_from

    def listen(self, seconds: float) -> Heard:
        """Wait so long for a line of the trainer, then tell all there is."""
        assert self._child is not None
        assert self._log is not None
        lines: list[str] = []
        ended = False
        try:
            line = self._lines.get(timeout=seconds)
            while line is not None:
                lines.append(line)
                line = self._lines.get_nowait()
            ended = True
        except Empty:
            pass
        status = self._child.wait() if ended else None
        return Heard(lines, self._log.read(), self._checkpoint(), status)

    def stop(self) -> None:
        """Let the trainer write a checkpoint and end; listen tells when it has."""
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def left(self) -> dict[str, int]:
        """
        Say what the trainer has left: the checkpoint, or the model and the result.

        Returns: path inside the directory of the training -> bytes.
        """
        places = [self._training / name for name in (CHECKPOINT, RESULT, BAD_BATCH) if (self._training / name).exists()]
        if self._training.joinpath(RESULT).exists():
            places += (file for file in sorted((self._training / MODEL).rglob("*")) if file.is_file())
        return {str(file.relative_to(self._training)): file.stat().st_size for file in places}

    def open(self, name: str) -> None:
        """Begin to read a file of the training; another one may take its place meanwhile."""
        self._reading = (self._training / name).open("rb")

    def read(self) -> bytes:
        """Go on reading the file that was opened last; fewer than PART_BYTES at its end."""
        assert self._reading is not None
        return self._reading.read(PART_BYTES)

    def clear(self) -> None:
        """Leave nothing of the job behind, and nobody who works on it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _training(self) -> Path:
        return self._directory / TRAINING

    def _has(self, sha256: str) -> bool:
        file = self._kept / sha256
        if not file.exists():
            return False
        with file.open("rb") as opened:
            if file_digest(opened, "sha256").hexdigest() != sha256:
                file.unlink(missing_ok=True)
                return False
        os.utime(file)
        return True

    def _checkpoint(self) -> int | None:
        try:
            return (self._training / CHECKPOINT).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _read_lines(self, child: "subprocess.Popen[str]") -> None:
        for line in child.stdout or ():
            self._lines.put(line)
        self._lines.put(None)


def _moved(job: str, directory: Path) -> str:
    """The job, where its files lie here; what else it says is the trainer's affair."""
    places = {"base": "base", "triplets": TRIPLETS, "directory": TRAINING, "output": "output"}
    return json.dumps({**json.loads(job), **{name: str(directory / place) for name, place in places.items()}})


def _scratch() -> Path:
    """
    The directory for all jobs of this user on this machine, in the folder for temporary files (TMPDIR).

    Raises: PermissionError when somebody else has made it, who could then put another model in.
    """
    directory = Path(tempfile.gettempdir()) / f"relevanced-training-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.lstat().st_uid != os.getuid() or directory.is_symlink():
        raise PermissionError(f"{directory} is not this user's own")
    return directory


def _tidy(scratch: Path, kept: Path) -> None:
    """Remove what attempts that were killed have left, which nobody holds locked, and models that are out of use."""
    for directory in scratch.glob("job-*"):
        try:
            lock = _locked(directory)
        except OSError:  # at work, or gone already
            continue
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)
    for file in kept.iterdir():
        if file.stat().st_mtime < time.time() - _KEPT_SECONDS:
            file.unlink(missing_ok=True)


def _locked(directory: Path) -> int:
    """Lock a directory for as long as this process lives; raises OSError when another one holds it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
