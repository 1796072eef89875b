"""
Training, as the child does it: `python -m relevanced.daemon.trainer JOB_DIRECTORY PARENT_PID`.

In:  job.json, and checkpoint.pt if an earlier attempt left one. Out: model/, result.json, each complete or not there.
On stdout: JSON lines of what is being done, of steps, and remarks; or {"error": sentence}. training.py is the parent.
On a CPU the same job gives the same bits, killed and resumed or not: no step draws a random number, since dropout
is off and the order of the triplets follows from seed and epoch.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import torch
from safetensors import SafetensorError

from relevanced.daemon import checkpoints
from relevanced.daemon.batches import Batch, Batches, Rows, Triplets, ahead
from relevanced.daemon.checkpoints import Done
from relevanced.daemon.child import die_with, take_stdout
from relevanced.daemon.cost import CPU
from relevanced.daemon.devices import cpu_kind, device_name
from relevanced.daemon.encoder import load_model, tokenize
from relevanced.daemon.errors import FailStep
from relevanced.daemon.files import write_text
from relevanced.daemon.forward import embedded, fetched, ready_to_learn
from relevanced.daemon.gradients import Gradients, patiently
from relevanced.daemon.lora import inject
from relevanced.daemon.losses_ahead import Ahead
from relevanced.daemon.optimizer import Average, Optimizer, rate_share
from relevanced.daemon.packing import forward_of
from relevanced.daemon.ports import Vectors
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.team import Team, recruit
from relevanced.daemon.training import (
    BAD_BATCH,
    CANNOT,
    CHECKPOINT,
    JOB,
    KILLED,
    MODEL,
    RESULT,
    STOPPED,
    TrainingJob,
    TrainingResult,
)
from relevanced.daemon.validating import Validation, parted

_NAMED: Final = 3  # triplets of a batch that a sentence names


class Training:
    """A job under way: model, optimiser and what is done, which a checkpoint holds together."""

    def __init__(self, job: TrainingJob, out: TextIO, team: Team | None = None) -> None:
        self._job, self._policy, self._out, self._team = job, job.policy, out, team or Team()
        self._say({"doing": "Reading the triplets", "done": 0, "total": 1})
        self._triplets = Triplets.read(job.triplets).with_negatives(job.policy.negatives)
        # In eval mode, where dropout is off: it costs time, and NDCG@10 was .813 with it and .815 without.
        self._model = load_model(job.base)
        self._queries = Rows(self._triplets.queries, lambda texts: tokenize(self._model, texts, "query"))
        self._documents = Rows(self._triplets.documents, lambda texts: tokenize(self._model, texts, "document"))
        if job.policy.lora_rank:
            inject(self._model, job.policy)
        ready_to_learn(self._model)
        self._forward = forward_of(self._model)
        teach, measure = parted(self._triplets, job.policy.validation_share)
        self._teach, self._validation = teach, Validation(self._triplets, measure) if measure else None
        self._batches = Batches(self._triplets, self._queries, self._documents)
        self._optimizer = Optimizer(self._model, job.policy)
        self._gradients = Gradients(self._model, self._forward, self._batches, job.policy, self._team)
        self._average, self._best = Average(), dict[str, torch.Tensor]()
        for _ in range(_times_killed(job.directory)):
            self._gradients.halve()
        self._ahead = Ahead(self._model.device)
        self._done = Done()
        self._stop = False

    @property
    def steps(self) -> int:
        return steps_of(len(self._teach), self._policy)

    def stop_soon(self, *_signal: object) -> None:
        """End after the step under way; the handler of SIGTERM."""
        self._stop = True

    def run(self) -> int:
        """
        Take the steps that are left, then write the model.

        Returns: the exit status.
        Raises: FailStep when the loss or its gradient is no longer a number.
        """
        self._resume()
        self._tell()
        saved_at = time.monotonic()
        order = list(batch_order(self._teach, self._policy))[self._done.step : self.steps]
        for places, batch in ahead(self._batches, order):
            if self._team.any(self._stop):
                self._save_checkpoint()
                return STOPPED
            self._take_step(places, batch)
            if self._validation and self._done.step in validation_steps(len(self._teach), self._policy):
                self._validate(self._validation)
                if self._policy.keep_best and self._done.stale >= self._policy.patience:
                    break
            self._tell()
            if self._team.any(time.monotonic() - saved_at >= self._policy.checkpoint_seconds):
                self._save_checkpoint()
                saved_at = time.monotonic()
        self._finish()
        return 0

    def _take_step(self, places: Sequence[int], batch: Batch) -> None:
        began, done = time.monotonic(), self._done
        loss, kept = patiently(lambda: self._gradients.add(batch), self._gradients, self._optimizer.forget)
        if kept is not None:
            remark = f"Memory ran out at step {done.step + 1}; {kept:,} tokens are kept at a time from there on."
            done.remarks.append(remark)
            self._say({"remark": remark})
        norm = self._optimizer.step(rate_share(done.step, self.steps, self._policy))
        self._ahead.put(loss, norm, places)
        self._hear(wait=False)
        done.step += 1
        done.triplets += len(places)
        done.tokens += batch.tokens
        if done.step > self.steps * (1 - self._policy.average_share):
            self._average.add(self._optimizer.weights())
        done.seconds += time.monotonic() - began

    def _hear(self, *, wait: bool) -> None:
        """Take note of the losses that are known by now."""
        for loss, norm, places in self._ahead.known(wait=wait):
            self._done.losses.append(loss)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise FailStep(self._no_number(places))

    def _no_number(self, places: Sequence[int]) -> str:
        write_text(
            self._job.directory / BAD_BATCH, json.dumps({"step": len(self._done.losses), "triplets": list(places)})
        )
        named = ", ".join(map(str, places[:_NAMED])) + (f" and {len(places) - _NAMED} more" if places[_NAMED:] else "")
        return (
            f"The loss was no number at step {len(self._done.losses)} of {self.steps}, over the triplets {named} of"
            f" {self._job.triplets.name} ({BAD_BATCH} lists them); a lower learning_rate in [training] may help."
        )

    def _validate(self, validation: Validation) -> None:
        self._hear(wait=True)
        self._say({"doing": "Validating", "done": 0, "total": 1})
        queries, documents = (partial(self._embed, rows) for rows in (self._queries, self._documents))
        measured = validation.measure(queries, documents)
        self._done.validations.append((self._done.step, measured))
        planned = len(validation_steps(len(self._teach), self._policy))
        self._say({"validated": measured, "share": len(self._done.validations) / planned})
        if self._policy.keep_best and self._done.best_step == self._done.step:
            self._best = {name: one.clone() for name, one in self._optimizer.weights().items()}

    @torch.inference_mode()
    def _embed(self, rows: Rows, places: Sequence[int]) -> Vectors:
        return fetched(embedded(self._forward, rows.of(places)))

    def _tell(self) -> None:
        done = self._done
        line: dict[str, Any] = {"step": done.step, "steps": self.steps}
        if done.losses:
            line |= {
                "loss": round(done.losses[-1], 4),
                "triplets_per_s": round(done.triplets / done.seconds, 1),
                "seconds_left": round((self.steps - done.step) * done.seconds / done.step, 1),
            }
        self._say(line)

    def _say(self, line: dict[str, Any]) -> None:
        if self._team.leads:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()

    def _resume(self) -> None:
        state = checkpoints.load(self._job.directory, self._model.device)
        if state is not None:
            self._optimizer.load(state["weights"])
            self._optimizer.load_state(state["adamw"])
            self._average.load_state(state["average"])
            self._best = state["best"]
            self._done = Done(**state["done"])

    def _save_checkpoint(self) -> None:
        self._hear(wait=True)
        if not self._team.leads:
            return
        state = {
            "weights": self._optimizer.weights(),
            "adamw": self._optimizer.state(),
            "average": self._average.state(),
            "best": self._best,
            "done": asdict(self._done),
        }
        checkpoints.save(self._job.directory, state)

    def _finish(self) -> None:
        """Leave the model, then the result, which says that it is complete; only then is the checkpoint of no use."""
        self._hear(wait=True)
        if not self._team.leads:
            return
        directory, done = self._job.directory, self._done
        weights = self._best or self._average.weights or self._optimizer.weights()
        checkpoints.leave(checkpoints.finished(self._job.base, weights, self._policy), directory / MODEL)
        result = TrainingResult(
            triplets=len(self._teach),
            steps=done.step,
            seconds=round(done.seconds, 3),
            losses=[round(loss, 6) for loss in done.losses],
            validations=[(step, round(value, 6)) for step, value in done.validations],
            tokens=done.tokens,
            device=self._model.device.type,
            processes=self._team.size,
            remarks=[*done.remarks, *self._killed()],
            device_name=device_name(self._model.device),
            threads=torch.get_num_threads(),
            cpu_kind=cpu_kind() if self._model.device.type == CPU else None,
        )
        write_text(directory / RESULT, json.dumps(asdict(result)))
        for name in (CHECKPOINT, KILLED):
            (directory / name).unlink(missing_ok=True)

    def _killed(self) -> list[str]:
        times = _times_killed(self._job.directory)
        return [f"The system killed it {times} times, and fewer tokens were kept from then on."] if times else []


def batch_order(places: Sequence[int], policy: TrainingPolicy) -> Iterator[list[int]]:
    """Yield the triplets of each step: shuffled for each epoch, in batches whose sizes differ by one."""
    batches = math.ceil(len(places) / policy.batch_size)
    for epoch in range(policy.epochs):
        order = np.random.default_rng([policy.seed, epoch]).permutation(np.asarray(places))
        yield from (part.tolist() for part in np.array_split(order, batches))


def steps_of(triplets: int, policy: TrainingPolicy) -> int:
    """Count the steps of a training."""
    steps = policy.epochs * math.ceil(triplets / policy.batch_size)
    return min(steps, policy.max_steps or steps)


def validation_steps(triplets: int, policy: TrainingPolicy) -> set[int]:
    """Give the steps behind which the model is measured, as many in each epoch, the last one among them."""
    steps = steps_of(triplets, policy)
    times = min(policy.epochs * policy.validations, steps)
    return {round(steps * (time + 1) / times) for time in range(times)}


def _times_killed(directory: Path) -> int:
    """How often the system has killed this training, as it does with what takes too much memory."""
    file = directory / KILLED
    return int(file.read_text()) if file.exists() else 0


def main(directory: str, parent: str, seat: str = "") -> int:
    """Do the job in this directory, in this seat of a team, and return the exit status."""
    die_with(int(parent), STOPPED)
    out = take_stdout()
    job = TrainingJob.from_json((Path(directory) / JOB).read_text(encoding="utf-8"))
    command = [*sys.orig_argv[:-1], str(os.getpid())]
    seat, helpers = recruit(command, job.policy.processes or max(torch.cuda.device_count(), 1), seat)
    if job.policy.threads is not None:
        torch.set_num_threads(job.policy.threads)
    # On a GPU the attention goes back in no fixed order anyway, and all else would only be slower.
    torch.use_deterministic_algorithms(not torch.cuda.is_available(), warn_only=True)
    team = Team(seat)
    try:
        training = Training(job, out, team)
        signal.signal(signal.SIGTERM, training.stop_soon)
        status = training.run()
        team.leave()
        for helper in helpers:
            helper.wait()
        return status
    except FailStep as error:
        sentence = str(error)
    except torch.OutOfMemoryError:
        sentence = "Training ran out of memory; fewer [training] kept_tokens or a smaller [model] max_tokens may fit."
    except (OSError, SafetensorError) as error:
        sentence = f"Training cannot go on in {directory}: {str(error).splitlines()[0]}"
    if team.leads:
        out.write(json.dumps({"error": sentence}) + "\n")
        out.flush()
    return CANNOT


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
