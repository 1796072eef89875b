"""
Training elsewhere: a child in the trainer's place, whose work a worker of a Ray cluster does.

In:  as trainer.py, `python -m relevanced.daemon.ray_runner JOB_DIRECTORY PARENT_PID`. Out: the same lines, files and
exit statuses, so that training.py, the parent, finds all as if the trainer had run here; it also says what it is doing.
Ray lives in this process alone: its threads and signal handlers stay out of the daemon, and it lets go of the worker
when this process ends, however that happens.
"""

import logging
import os
import signal
import socket
import sys
import time
import traceback
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from relevanced.daemon.child import die_with, take_stdout
from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.ray_attempt import Attempt, Parent
from relevanced.daemon.ray_worker import Worker
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.training import CANNOT, CRASHED, JOB, STOPPED, TrainingJob

_CONNECT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5  # between two looks whether there is a worker


def connect(address: str) -> None:
    """
    Become a driver of the cluster.

    Raises: Retry when it is not there; FailStep when it is, and cannot be used.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    where = "on this machine" if address == "auto" else f"at {address}"
    try:
        if address != "auto":  # asked here first, since Ray itself may wait for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except OSError as error:
        reason = f" ({error.strerror})" if error.strerror else ""
        raise Retry(f"No Ray cluster answers {where}{reason}; start it, or name another one as ray_address.") from error
    except ValueError as error:
        raise FailStep(f"[training] ray_address: {address} is not host:port, ray://host:port or auto.") from error
    except (RuntimeError, RayError) as error:  # another Ray or another Python, as a rule
        raise FailStep(f"The Ray cluster {where} cannot be used: {' '.join(str(error).split())}") from error


def find_worker(policy: TrainingPolicy, parent: Parent) -> tuple[Any, str]:
    """
    Wait for a worker with as much to spare as the job wants, and see that it is of our version.

    Returns: the actor, and the name of its machine.
    Raises: Retry when there is none; FailStep when its relevanced is another one.
    """
    cluster: dict[str, float] = ray.cluster_resources()
    gpus = min(1.0, cluster.get("GPU", 0.0)) if policy.ray_gpus is None else policy.ray_gpus
    cpus = policy.threads or 1
    actor: Any = ray.remote(Worker)
    worker = actor.options(num_cpus=cpus, num_gpus=gpus).remote()
    described = worker.describe.remote()
    until = time.monotonic() + policy.ray_wait_seconds
    while not ray.wait([described], timeout=_LOOK_SECONDS)[0]:
        parent.say("Waiting for a Ray worker", 0, 1)
        parent.heed_stop()
        if time.monotonic() > until:
            there = f"{cluster.get('CPU', 0):g} CPU and {cluster.get('GPU', 0):g} GPU"
            raise Retry(
                f"No Ray worker had {cpus} CPU and {gpus:g} GPU to spare in {policy.ray_wait_seconds:g} s;"
                f" the cluster has {there} in all."
            )
    ours = installed_version("relevanced")
    try:
        theirs, host = ray.get(described)
    except RayError as error:
        if "No module named 'relevanced" not in str(error):
            raise
        raise FailStep(f"A Ray worker has no relevanced {ours}; install it for the Python that Ray runs on.") from error
    if theirs != ours:
        raise FailStep(f"The Ray worker {host} has relevanced {theirs}; install {ours} there, as it is here.")
    return worker, host


def run(job: TrainingJob, parent: Parent) -> int:
    """
    Do the job, or what is left of it.

    Returns: the trainer's exit status.
    Raises: FailStep when it cannot succeed; Retry when the cluster is not there, has no room, or lost the worker.
    """
    connect(job.policy.ray_address)
    signal.signal(signal.SIGTERM, parent.stop_soon)  # now, since Ray has just put its own in
    try:
        worker, host = find_worker(job.policy, parent)
        with Attempt(job, worker, host, parent) as attempt:
            attempt.send()
            status = attempt.follow()
    except RayTaskError as error:  # an exception on the worker
        if isinstance(error.cause, OSError):
            raise FailStep(f"Training cannot go on on the Ray worker: {error.cause}.") from error
        raise
    except (RayError, ConnectionError) as error:
        parent.log(f"{error}\n".encode())
        place = f"near {parent.place}, and goes on" if parent.place else "before its first step, and begins again"
        raise Retry(f"Training lost its Ray worker {place} from the last checkpoint that came back.") from error
    if status in (-signal.SIGKILL, -signal.SIGTERM):
        raise Retry(
            f"Training was killed on {host} near {parent.place or 'its first step'}, as by a system out of memory;"
            " it goes on from its checkpoint."
        )
    return status if status >= 0 else 128 - status


def main(directory: str, parent_id: str) -> int:
    """Do the job in this directory, and return the exit status."""
    die_with(int(parent_id), STOPPED)
    parent = Parent(take_stdout())
    job = TrainingJob.from_json((Path(directory) / JOB).read_text(encoding="utf-8"))
    try:
        return run(job, parent)
    except Retry as error:
        parent.tell({"retry": str(error)})
        return STOPPED
    except FailStep as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"Training cannot go on in {directory}: {error}"
    except Exception:  # noqa: BLE001  # status 1 says that Ray has ended this process
        traceback.print_exc()
        return CRASHED
    parent.tell({"error": sentence})
    return CANNOT


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
