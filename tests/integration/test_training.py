"""Training in a real child process, killed, stopped and repeated; the model is tiny, all else is as in production."""

import dataclasses
import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from relevanced.daemon.encoder import TransformerEncoder
from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.ports import silent
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.training import TrainingJob, train
from tests.tiny import WORDS, make_tiny_model

EPOCHS, STEPS = 100, 300  # so many that the child is still under way when the parent hears of the first ones
PATIENCE = 120  # seconds; only a hang waits so long


def triplets(weight=1.0):
    rows = []
    for number, word in enumerate(WORDS):
        other, third = WORDS[number - 1], WORDS[number - 2]
        rows.append(
            {
                "anchor": f"the {word}",
                "query_key": word,
                "positive": f"{word} of {other}",
                "negatives": [f"{third} of {word}"],
                "weight": weight,
            }
        )
    return pa.Table.from_pylist(rows)


def job_in(directory, base, rows=None, **policy):
    pq.write_table(rows or triplets(), directory / "triplets.parquet")
    wanted = {"batch_size": 5, "epochs": EPOCHS, "learning_rate": 1e-2, "threads": 1, **policy}
    return TrainingJob(
        base=base,
        triplets=directory / "triplets.parquet",
        directory=directory / "training",
        output=directory / "versions" / "v2",
        policy=TrainingPolicy(**wanted),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("training") / "tiny")


@pytest.fixture(scope="module")
def new_job(base, tmp_path_factory):
    """Makes jobs of STEPS steps, all over the same triplets, each in a place of its own."""

    return lambda rows=None, **policy: job_in(tmp_path_factory.mktemp("job"), base, rows, **policy)


@pytest.fixture(scope="module")
def quiet(new_job):
    """A job that nobody disturbs, and its result."""
    job = new_job()
    return job, train(job, silent)


def weights(job):
    return hashlib.sha256((job.output / "model.safetensors").read_bytes()).hexdigest()


def answered_first(directory):
    """Share of the queries whose own document is the nearest."""
    encoder, rows = TransformerEncoder.load(directory, ""), triplets()
    scores = (
        encoder.encode_queries(rows["anchor"].to_pylist()) @ encoder.encode_documents(rows["positive"].to_pylist()).T
    )
    return (scores.argmax(axis=1) == range(len(WORDS))).mean()


def child():
    (found,) = [one for one in psutil.Process().children() if "relevanced.daemon.trainer" in one.cmdline()]
    return found


def interrupt():
    raise KeyboardInterrupt


class At:
    """A Progress that does something when a step has been taken, and notes all steps."""

    def __init__(self, step, action):
        self.step, self.action, self.steps, self.details = step, action, [], []

    def __call__(self, label, done, total, detail=""):
        if label == "Training":
            self.steps.append(done)
            self.details.append(detail)
            if done == self.step:
                self.action()


def test_training_lowers_the_loss_and_leaves_a_model_that_encodes(quiet, base):
    job, result = quiet
    assert (result.triplets, result.steps, result.device) == (len(WORDS), STEPS, "cpu")
    assert result.losses[-1] < result.losses[0]
    assert len(result.losses) == STEPS
    assert answered_first(job.output) > answered_first(base)


def test_nothing_but_the_result_is_left_beside_the_model(quiet):
    job, _ = quiet
    assert {path.name for path in job.directory.iterdir()} == {"job.json", "result.json", "stderr.log"}
    assert not list(job.output.rglob("*.partial"))


def test_a_job_that_is_done_is_not_done_again(quiet):
    job, result = quiet
    heard = []
    assert train(job, lambda *call: heard.append(call)) == result
    assert heard == []


def test_killed_stopped_and_interrupted_it_goes_on_and_ends_with_the_same_bits(new_job, quiet):
    job = new_job(checkpoint_seconds=0.1)
    with pytest.raises(Retry, match="killed"):
        train(job, At(10, lambda: child().kill()))
    with pytest.raises(Retry, match=rf"asked to stop at step \d+ of {STEPS}"):
        train(job, At(20, lambda: child().terminate()))
    with pytest.raises(KeyboardInterrupt):
        train(job, At(30, interrupt))
    assert psutil.Process().children() == []
    assert not job.output.exists()
    went_on = At(None, None)
    result = train(job, went_on)
    assert re.fullmatch(r"loss \d+\.\d{3}, [\d,]+ triplets/s, 0 s left", went_on.details[-1])
    assert went_on.steps[0] >= 30  # the checkpoint of the interrupt
    assert weights(job) == weights(quiet[0])
    assert result.losses == quiet[1].losses


def test_the_child_dies_with_its_parent(new_job):
    """The parent stops listening after the first step, so the child can neither end nor fail by itself."""
    job = new_job(epochs=100_000)
    program = (
        "import sys, time; from pathlib import Path; from relevanced.daemon.training import *;"
        "from relevanced.daemon.training import train\n"
        "def progress(label, done, total, detail=''):\n"
        "    if label == 'Training':\n"
        "        print('began', flush=True); time.sleep(3600)\n"
        "train(TrainingJob.from_json(sys.argv[1]), progress)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, job.to_json("")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "began\n"
        (trainer,) = psutil.Process(parent.pid).children()
        parent.kill()
    psutil.wait_procs([trainer], timeout=PATIENCE)
    assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE


def test_another_job_in_the_same_place_begins_anew_and_replaces_the_model(new_job):
    job = new_job(epochs=1)
    train(job, silent)
    before = weights(job)
    (job.directory / "checkpoint.pt").write_bytes(b"of the job before")
    other = dataclasses.replace(job, policy=dataclasses.replace(job.policy, seed=1))
    assert train(other, silent).steps == STEPS / EPOCHS
    assert weights(other) != before


def test_a_model_that_is_complete_is_put_in_its_place_after_a_kill_between(new_job):
    job = new_job(epochs=1)
    result = train(job, silent)
    job.output.rename(job.directory / "model")
    assert train(job, silent) == result
    assert job.output.is_dir()


def test_a_loss_that_is_no_number_fails_the_step_in_a_sentence(new_job):
    job = new_job(rows=triplets(weight=float("nan")))
    with pytest.raises(FailStep, match=f"no number at step 1 of {STEPS}, over the triplets .* and 2 more of") as failed:
        train(job, silent)
    bad = json.loads((job.directory / "bad_batch.json").read_text())
    assert f"the triplets {', '.join(map(str, bad['triplets'][:3]))} and" in str(failed.value)
    assert bad["step"] == 1
    assert not job.output.exists()


def test_a_crash_fails_the_step_with_the_last_words_of_the_child(new_job, tmp_path):
    job = dataclasses.replace(new_job(), base=shutil.copytree(new_job().base, tmp_path / "broken"))
    (job.base / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 16, "pooling_mode": "nonsense"})
    )
    with pytest.raises(FailStep, match=r"status 1: .*nonsense"):
        train(job, silent)


def test_a_full_disk_fails_the_step_in_a_sentence(new_job):
    """A limit on the size of files, which the child inherits, stops its writing as a full disk does."""
    job = new_job(epochs=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(FailStep, match=r"Training cannot go on in .*File too large"):
            train(job, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    train(job, silent)
    assert job.output.is_dir()


def test_a_child_that_says_nothing_is_ended_and_goes_on_from_its_checkpoint(new_job):
    job = new_job(silence_seconds=15, checkpoint_seconds=0)
    with pytest.raises(Retry, match=r"said nothing for 15 s near step \d+ of 300"):
        train(job, At(10, lambda: child().suspend()))
    assert psutil.Process().children() == []
    went_on = At(None, None)
    train(job, went_on)
    assert went_on.steps[0] >= 9


def test_what_was_killed_as_if_for_its_memory_keeps_less_of_it(new_job, quiet):
    job = new_job(checkpoint_seconds=0, kept_tokens=1024)
    for times in (2, 4):
        with pytest.raises(Retry, match=f"with {times} times less kept in memory"):
            train(job, At(10 * times, lambda: child().kill()))
    train(job, silent)
    assert weights(job) == weights(quiet[0])  # it costs time, and changes nothing


def test_two_processes_that_share_each_batch_learn_what_one_learns(new_job, base):
    """Every document of the batch is a negative for every anchor, wherever it was encoded."""
    alone, shared = new_job(epochs=10), new_job(epochs=10, processes=2)
    one, two = train(alone, silent), train(shared, silent)
    assert (one.processes, two.processes) == (1, 2)
    np.testing.assert_allclose(one.losses, two.losses, rtol=0.05, atol=0.02)
    assert answered_first(shared.output) > answered_first(base)
    assert psutil.Process().children() == []


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss": "margin", "margin": 0.5},
        {"lora_rank": 8, "learning_rate": 1e-2},
        {"matryoshka": (8, 4), "matryoshka_weights": (0.5, 0.25), "schedule": "cosine"},
        {"average_share": 0.5, "schedule": "constant", "mask_above": 0.5},
        {"validation_share": 0.3},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_every_recipe_learns_and_survives_a_kill(new_job, base, recipe):
    """Only with the same state in its checkpoint does it end with the same weights."""
    quiet, killed = new_job(epochs=20, **recipe), new_job(epochs=20, checkpoint_seconds=0, **recipe)
    result = train(quiet, silent)
    with pytest.raises(Retry, match="killed"):
        train(killed, At(min(result.steps // 2, 30), lambda: child().kill()))
    assert train(killed, silent).losses == result.losses
    assert weights(killed) == weights(quiet)
    if recipe.get("validation_share"):
        best = max(value for _, value in result.validations)
        assert result.steps < 60 or len(result.validations) == 80
        assert best >= result.validations[0][1]
    else:
        assert answered_first(quiet.output) > answered_first(base)
    names = set(load_file(quiet.output / "model.safetensors"))
    assert names == set(load_file(base / "model.safetensors"))


def test_what_is_kept_of_the_base_model_lies_between_the_two(new_job, base):
    tuned, half = new_job(epochs=10), new_job(epochs=10, keep_base=0.5)
    train(tuned, silent)
    train(half, silent)
    before, after, mixed = (load_file(one / "model.safetensors") for one in (base, tuned.output, half.output))
    for name, one in mixed.items():
        torch.testing.assert_close(one, (before[name] + after[name]) / 2)
