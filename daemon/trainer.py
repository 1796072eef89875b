"""
Training, as the child does it: `python -m relevanced.daemon.trainer JOB_DIRECTORY PARENT_PID`.

In:  job.json, and checkpoint.pt if an earlier attempt left one. Out: model/, result.json, each complete or not there.
On stdout: one JSON line before the first step and one after each, or {"error": sentence}. training.py is the parent.
On a CPU the same job gives the same bits, killed and resumed or not: no step draws a random number, since dropout
is off and the order of the triplets follows from seed and epoch.
"""

import ctypes
import io
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import torch
from safetensors import SafetensorError

from relevanced.daemon.contrastive import Batches, Triplets, add_gradients
from relevanced.daemon.encoder import load_model
from relevanced.daemon.errors import FailStep
from relevanced.daemon.files import whole_file, write_text
from relevanced.daemon.training import (
    CANNOT,
    JOB,
    MODEL,
    RESULT,
    STOPPED,
    TrainingJob,
    TrainingPolicy,
    TrainingResult,
)

_CHECKPOINT: Final = "checkpoint.pt"
_PR_SET_PDEATHSIG: Final = 1  # of prctl(2)


@dataclass(slots=True)
class Progress:
    """What has been done so far; part of a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    first_loss: float = 0.0
    last_loss: float = 0.0
    tokens: int = 0


class Training:
    """A job under way: model, optimiser and progress, which a checkpoint holds together."""

    def __init__(self, job: TrainingJob) -> None:
        self._job, self._policy = job, job.policy
        self._triplets = Triplets.read(job.triplets)
        # In eval mode, where dropout is off: it costs time, and NDCG@10 was .813 with it and .815 without.
        self._model = load_model(job.base)
        self._batches = Batches(self._model, self._triplets)
        parameters = [one for one in self._model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(
            parameters, lr=job.policy.learning_rate, weight_decay=job.policy.weight_decay, fused=True
        )
        self._progress = Progress()
        self._stop = False

    @property
    def steps(self) -> int:
        return self._policy.epochs * math.ceil(len(self._triplets) / self._policy.batch_size)

    def stop_soon(self, *_signal: object) -> None:
        """End after the step under way; the handler of SIGTERM."""
        self._stop = True

    def run(self, out: TextIO) -> int:
        """
        Take the steps that are left, then write the model.

        Returns: the exit status.
        Raises: FailStep when the loss or its gradient is no longer a number.
        """
        self._resume()
        saved_at = time.monotonic()
        self._tell(out)
        for places in list(batch_order(len(self._triplets), self._policy))[self._progress.step :]:
            if self._stop:
                self._save_checkpoint()
                return STOPPED
            self._take_step(places)
            self._tell(out)
            if time.monotonic() - saved_at >= self._policy.checkpoint_seconds:
                self._save_checkpoint()
                saved_at = time.monotonic()
        self._finish()
        return 0

    def _take_step(self, places: list[int]) -> None:
        began, done = time.monotonic(), self._progress
        batch = self._batches.of(places)
        share = rate_share(done.step, self.steps, self._policy.warmup_share)
        for group in self._optimizer.param_groups:
            group["lr"] = self._policy.learning_rate * share
        loss = add_gradients(
            self._model, batch, temperature=self._policy.temperature, kept_tokens=self._policy.kept_tokens
        )
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._policy.max_gradient_norm)
        if not math.isfinite(loss) or not torch.isfinite(norm):
            place = f"step {done.step + 1} of {self.steps}"
            raise FailStep(f"The loss was no number at {place}; a lower learning_rate in [training] may help.")
        self._optimizer.step()
        self._optimizer.zero_grad()
        done.first_loss, done.last_loss = (loss if done.step == 0 else done.first_loss), loss
        done.step += 1
        done.tokens += sum(map(len, batch.rows))
        done.seconds += time.monotonic() - began

    def _tell(self, out: TextIO) -> None:
        out.write(json.dumps({"step": self._progress.step, "steps": self.steps}) + "\n")
        out.flush()

    def _resume(self) -> None:
        file = self._job.directory / _CHECKPOINT
        if file.exists():
            state = torch.load(file, map_location=self._model.device, weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._progress = Progress(**state["progress"])

    def _save_checkpoint(self) -> None:
        state = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": asdict(self._progress),
        }
        buffer = io.BytesIO()  # torch itself would report a full disk as a RuntimeError without a reason
        torch.save(state, buffer)
        with whole_file(self._job.directory / _CHECKPOINT) as partial:
            partial.write_bytes(buffer.getbuffer())

    def _finish(self) -> None:
        """Leave the model, then the result, which says that it is complete; only then is the checkpoint of no use."""
        directory, done = self._job.directory, self._progress
        for name in (MODEL, f"{MODEL}.partial"):
            shutil.rmtree(directory / name, ignore_errors=True)
        self._model.save(str(directory / f"{MODEL}.partial"), create_model_card=False)
        (directory / f"{MODEL}.partial").rename(directory / MODEL)
        result = TrainingResult(
            triplets=len(self._triplets),
            steps=self.steps,
            seconds=round(done.seconds, 3),
            first_loss=done.first_loss,
            last_loss=done.last_loss,
            tokens=done.tokens,
            device=self._model.device.type,
        )
        write_text(directory / RESULT, json.dumps(asdict(result)))
        (directory / _CHECKPOINT).unlink(missing_ok=True)


def batch_order(triplets: int, policy: TrainingPolicy) -> Iterator[list[int]]:
    """Yield the places of the triplets of each step: shuffled for each epoch, in batches whose sizes differ by one."""
    batches = math.ceil(triplets / policy.batch_size)
    for epoch in range(policy.epochs):
        order = np.random.default_rng([policy.seed, epoch]).permutation(triplets)
        yield from (part.tolist() for part in np.array_split(order, batches))


def rate_share(step: int, steps: int, warmup_share: float) -> float:
    """Give the share of the peak learning rate at a step (from 0): up in a line over the warm-up, then down to 0."""
    warmup = round(steps * warmup_share)
    return (step + 1) / (warmup + 1) if step < warmup else (steps - step) / (steps - warmup)


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; end at once if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(STOPPED)


def _take_stdout() -> TextIO:
    """Keep stdout for the protocol; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


def main(directory: str, parent: str) -> int:
    """Do the job in this directory, and return the exit status."""
    _die_with(int(parent))
    out = _take_stdout()
    job = TrainingJob.from_json((Path(directory) / JOB).read_text(encoding="utf-8"))
    if job.policy.threads is not None:
        torch.set_num_threads(job.policy.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        training = Training(job)
        signal.signal(signal.SIGTERM, training.stop_soon)
        return training.run(out)
    except FailStep as error:
        sentence = str(error)
    except (OSError, SafetensorError) as error:
        sentence = f"Training cannot go on in {directory}: {str(error).splitlines()[0]}"
    out.write(json.dumps({"error": sentence}) + "\n")
    out.flush()
    return CANNOT


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
