"""Training on a real Ray cluster of this machine; the model is tiny, all else is as it would be far away."""

import dataclasses
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.ports import silent
from relevanced.daemon.training import train
from tests.integration.test_training import STEPS, interrupt, job_in, triplets, weights
from tests.tiny import make_tiny_model

pytest.importorskip("ray", reason="Ray is not installed: it has no wheel for this Python")

PATIENCE = 60  # seconds; only a hang waits so long

HEAD = """
import sys, ray
head = ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
print("address", head.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@contextmanager
def running(command, environment):
    """A process of its own, which ends with the block, and with the tests, however they end."""
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            begun = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(PATIENCE)
            end(begun)


def end(processes, seconds=5):
    """Let them end by themselves for so long, as they do when the cluster does."""
    for process in psutil.wait_procs(processes, timeout=seconds)[1]:
        process.kill()


def said(process, words):
    """The line in which a process says these words; it goes on saying more, which nobody hears."""
    heard = []
    for line in process.stdout:
        heard.append(line)
        if words in line:
            return line
    raise AssertionError("".join(heard))


@pytest.fixture(scope="module")
def scratch():
    """Where the workers put their files."""
    directory = Path(tempfile.mkdtemp(prefix="ray-"))  # short, for a socket's path may have 107 bytes
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def address(scratch):
    """A cluster that asks for a token; without one given, Ray would write one to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AUTH_MODE": "token",
            "AUTH_TOKEN": secrets.token_hex(32),
            "USAGE_STATS_ENABLED": "0",
        }.items():
            patch.setenv(f"RAY_{name}", value)
        with running([sys.executable, "-c", HEAD], {"TMPDIR": str(scratch)}) as head:
            yield said(head, "address").split()[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("ray") / "tiny")


@pytest.fixture(scope="module")
def new_job(base, address, tmp_path_factory):
    far = {"checkpoint_seconds": 0.1, "runner": "ray", "ray_address": address}
    return lambda rows=None, **policy: job_in(tmp_path_factory.mktemp("job"), base, rows, **{**far, **policy})


@pytest.fixture(scope="module")
def here(new_job):
    """The same job in a child process of this machine, and its result."""
    job = new_job(runner="local")
    return job, train(job, silent)


class OnceAfter:
    """A Progress that does something once a checkpoint is here and so many steps are taken, and notes all it hears."""

    def __init__(self, job, step, action):
        self.job, self.step, self.action, self.heard = job, step, action, []

    def __call__(self, label, done, total, detail=""):
        self.heard.append((label, done, total))
        if label == "Training" and self.action and done >= self.step:
            wait_for((self.job.directory / "checkpoint.pt").exists)
            action, self.action = self.action, None
            action()

    def of(self, label):
        return [(done, total) for name, done, total in self.heard if name.startswith(label)]


def wait_for(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def trainers(scratch):
    """Finds the trainers at work on the cluster."""

    def find():
        commands = {one: one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])}
        return [one for one, words in commands.items() if any(word.startswith(str(scratch)) for word in words[3:4])]

    return find


def test_lost_interrupted_and_taken_up_again_it_ends_with_the_bits_of_a_training_here(new_job, here, scratch, trainers):
    def kill_the_worker():
        (trainer,) = trainers()
        trainer.parent().kill()

    job = new_job()
    lost = OnceAfter(job, 50, kill_the_worker)
    with pytest.raises(Retry, match=rf"lost its Ray worker near step \d+ of {STEPS}"):
        train(job, lost)
    assert lost.of("Training")[0] == (0, STEPS)

    interrupted = OnceAfter(job, 100, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(job, interrupted)
    assert 0 < interrupted.of("Training")[0][0] < 100 + STEPS / 3  # a checkpoint of the lost worker
    assert trainers() == []

    checkpoint = (job.directory / "checkpoint.pt").stat().st_size
    went_on = OnceAfter(job, None, None)
    result = train(job, went_on)
    assert went_on.of("Training")[0][0] >= 100  # the checkpoint of the interrupt
    assert went_on.of("Training")[-1] == (STEPS, STEPS)
    assert (result.steps, result.device) == (STEPS, "cpu")
    assert {path.name for path in job.directory.iterdir()} == {"job.json", "result.json", "stderr.log"}

    assert weights(job) == weights(here[0])

    model = sum(file.stat().st_size for file in job.base.rglob("*") if file.is_file())
    given = job.triplets.stat().st_size
    assert lost.of("Sending")[-1] == (model + given, model + given)
    assert went_on.of("Sending")[-1] == (checkpoint + given, checkpoint + given)  # the model was still there
    assert [path.name for folder in scratch.glob("relevanced-*") for path in folder.iterdir()] == ["kept"]


def test_a_job_that_cannot_succeed_fails_in_the_words_of_the_trainer(new_job):
    job = new_job(rows=triplets(weight=float("nan")))
    with pytest.raises(FailStep, match=f"no number at step 1 of {STEPS}, over the triplets .*; a lower learning_rate"):
        train(job, silent)
    assert json.loads((job.directory / "bad_batch.json").read_text())["step"] == 1
    assert not job.output.exists()


def test_a_job_that_is_done_is_the_same_job_elsewhere(here):
    """Were it another one, a change of the cluster's address would throw a checkpoint away."""
    job, result = here
    moved = dataclasses.replace(job.policy, runner="ray", ray_address="127.0.0.1:1", ray_gpus=2)
    assert train(dataclasses.replace(job, policy=moved), silent) == result


def test_a_cluster_that_does_not_answer_may_do_so_later(new_job):
    with pytest.raises(Retry, match=r"^No Ray cluster answers at 127\.0\.0\.1:1 \(Connection refused\); start it"):
        train(new_job(ray_address="127.0.0.1:1"), silent)


def test_an_address_that_is_none_fails_the_step(new_job):
    with pytest.raises(FailStep, match=r"ray_address: gpu-box is not host:port"):
        train(new_job(ray_address="gpu-box"), silent)


def test_a_cluster_without_room_is_waited_for_and_then_named(new_job):
    heard = []
    with pytest.raises(Retry, match=r"1 CPU and 1 GPU to spare in 1 s; the cluster has 2 CPU and 0 GPU in all"):
        train(new_job(ray_gpus=1, ray_wait_seconds=1), lambda label, *_: heard.append(label))
    assert "Waiting for a Ray worker" in heard


def test_a_worker_with_another_version_is_named(new_job, tmp_path, monkeypatch):
    """The worker has what is installed; what we are is said by a directory that only we look into."""
    (tmp_path / "relevanced-9.9.dist-info").mkdir()
    (tmp_path / "relevanced-9.9.dist-info" / "METADATA").write_text("Name: relevanced\nVersion: 9.9\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    # What building has left in the present directory names a version too, and workers look there as well.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(FailStep, match=r"has relevanced \d\S*; install 9\.9 there"):
        train(new_job(), silent)


def test_a_worker_without_relevanced_is_told_of(new_job, address, tmp_path):
    """It is the only one with a GPU, or says so, and where there is a GPU it is asked for."""
    (tmp_path / "relevanced").mkdir()
    (tmp_path / "relevanced" / "__init__.py").touch()
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", f"--address={address}", "--num-cpus=1", "--num-gpus=1", "--block"]
    with running(command, {"PYTHONPATH": str(tmp_path)}) as node:
        said(node, "Ray runtime started")
        with pytest.raises(FailStep, match=r"worker has no relevanced \d\S*; install it for the Python"):
            train(new_job(), silent)


def test_where_ray_is_not_installed_one_sentence_says_how(new_job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FailStep, match=r"Ray is not installed here; pip install 'relevanced\[ray\]'"):
        train(new_job(), silent)


def test_a_cluster_that_is_gone_is_tried_again(new_job, monkeypatch):
    """The last test of this cluster: its head is killed. Ray itself would be patient for a minute."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")

    ours = psutil.Process().children(recursive=True)

    def kill_the_head():
        (head,) = [one for one in ours if one.name() == "gcs_server"]
        head.kill()

    job = new_job(epochs=100_000, ray_gpus=0)
    with pytest.raises(Retry, match=r"lost its Ray cluster near step \d+ of \d+, and goes on from its checkpoint: "):
        train(job, OnceAfter(job, 50, kill_the_head))
    assert (job.directory / "checkpoint.pt").exists()
    end(ours, seconds=0)
