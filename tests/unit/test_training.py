"""What can be said of a training before a process is started for it."""

import dataclasses
import io
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.batches import Triplets
from relevanced.daemon.errors import FailStep
from relevanced.daemon.optimizer import rate_share
from relevanced.daemon.ports import silent
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.trainer import Training, batch_order, validation_steps
from relevanced.daemon.training import TrainingJob, train
from relevanced.daemon.validating import parted
from tests.tiny import make_tiny_model

ROW = {"anchor": "pain", "positive": "red eye", "negatives": ["ear"], "query_key": "pain", "weight": 1.0}


@pytest.fixture
def job(tmp_path):
    (tmp_path / "base").mkdir()
    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "triplets.parquet")
    return TrainingJob(
        base=tmp_path / "base",
        triplets=tmp_path / "triplets.parquet",
        directory=tmp_path / "job",
        output=tmp_path / "output",
        policy=TrainingPolicy(learning_rate=1e-5, threads=2),
    )


def test_a_job_comes_back_from_json_as_it_was(job):
    assert TrainingJob.from_json(job.to_json("digest")) == job


def test_a_job_over_other_triplets_is_another_job(job):
    assert job.to_json("digest") != job.to_json("other digest")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda job: job.base.rmdir(), "base model .* is not there"),
        (lambda job: job.triplets.unlink(), "cannot be read"),
        (lambda job: job.triplets.write_bytes(b"PAR1 and no more"), "cannot be read"),
        (lambda job: pq.write_table(pa.table({"anchor": ["pain"]}), job.triplets), "no column positive"),
        (lambda job: pq.write_table(pa.Table.from_pylist([ROW])[:0], job.triplets), "no triplet"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence_and_nothing_is_left(job, spoil, sentence):
    spoil(job)
    with pytest.raises(FailStep, match=sentence) as failed:
        train(job, silent)
    assert "\n" not in str(failed.value)
    assert not job.directory.exists()


@given(st.integers(1, 300), st.integers(2, 64), st.integers(1, 3))
def test_each_epoch_takes_each_triplet_once_in_even_batches(triplets, batch_size, epochs):
    policy = TrainingPolicy(batch_size=batch_size, epochs=epochs)
    batches = list(batch_order(range(triplets), policy))
    assert sorted(place for batch in batches for place in batch) == sorted(list(range(triplets)) * epochs)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_epochs_and_seeds_shuffle_differently_and_always_alike():
    policy = TrainingPolicy(epochs=2, batch_size=100)
    first, second = batch_order(range(100), policy)
    assert first != second
    assert [first, second] == list(batch_order(range(100), policy))
    assert first != next(batch_order(range(100), dataclasses.replace(policy, seed=1)))


@pytest.mark.parametrize(("steps", "warmup_share"), [(1, 0.0), (1, 0.9), (10, 0.0), (20, 0.1), (7, 0.5)])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_rises_to_its_peak_and_falls_without_reaching_zero(steps, warmup_share, schedule):
    policy = TrainingPolicy(warmup_share=warmup_share, schedule=schedule)
    shares = [rate_share(step, steps, policy) for step in range(steps)]
    peak = shares.index(max(shares))
    assert all(0 < share <= 1 for share in shares)
    assert shares == sorted(shares[:peak]) + sorted(shares[peak:], reverse=True)


@given(st.integers(1, 3000), st.integers(1, 4), st.integers(1, 8), st.integers(1, 40) | st.none())
def test_a_validated_training_is_measured_at_its_end_and_no_oftener_than_it_has_steps(triplets, epochs, times, most):
    policy = TrainingPolicy(batch_size=32, epochs=epochs, validations=times, max_steps=most)
    steps = min(epochs * -(-triplets // 32), most or 10**6)
    measured = validation_steps(triplets, policy)
    assert max(measured) == steps
    assert min(measured) >= 1
    assert len(measured) <= min(epochs * times, steps)


class Killed(BaseException):
    """Stands for kill -9: nothing of the process runs on, and what is on the disk stays as it is."""


class KilledAt(io.StringIO):
    """A stdout whose process is killed as it tells of a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def write(self, text):
        if json.loads(text).get("step") == self.step:
            raise Killed
        return super().write(text)


@pytest.mark.parametrize("checkpoint_seconds", [0, 3600])
def test_killed_at_every_step_it_ends_with_the_same_bits(job, tmp_path, checkpoint_seconds):
    job = dataclasses.replace(
        job,
        base=make_tiny_model(tmp_path / "tiny"),
        policy=TrainingPolicy(batch_size=2, epochs=3, learning_rate=1e-2, checkpoint_seconds=checkpoint_seconds),
    )
    texts = ["red eye", "left ear", "small heart", "large liver"]
    rows = [{**ROW, "anchor": text, "query_key": text, "positive": f"the {text}"} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows), job.triplets)
    models = {}
    for name, kills in {"quiet": [], "killed": range(7)}.items():
        one = dataclasses.replace(job, directory=tmp_path / name)
        one.directory.mkdir()
        for step in kills:
            with pytest.raises(Killed):
                Training(one, KilledAt(step)).run()
        assert Training(one, io.StringIO()).run() == 0
        models[name] = (one.directory / "model" / "model.safetensors").read_bytes()
    assert models["quiet"] == models["killed"]


TEXTS = ["red eye", "left ear", "small heart", "large liver", "bone pain", "red skin", "left kidney", "large heart"]


def trained(job, rows, **policy):
    """The weights and the result of a training in this process, and what it said."""
    out = io.StringIO()
    job.directory.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), job.triplets)
    recipe = {"batch_size": 2, "epochs": 3, "learning_rate": 3e-2, "threads": 2, **policy}
    Training(dataclasses.replace(job, policy=TrainingPolicy(**recipe)), out).run()
    weights = (job.directory / "model" / "model.safetensors").read_bytes()
    result = json.loads((job.directory / "result.json").read_text())
    shutil.rmtree(job.directory)
    return weights, result, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def rows(job, tmp_path):
    make_tiny_model(tmp_path / "tiny")
    shutil.rmtree(job.base)
    (tmp_path / "tiny").rename(job.base)
    return [
        {**ROW, "anchor": text, "query_key": text, "positive": f"the {text}", "negatives": [f"pain of {text}", "ear"]}
        for text in TEXTS
    ]


def test_validation_that_only_watches_changes_nothing_of_what_is_learned(job, rows):
    watched, result, said = trained(job, rows, validation_share=0.3, keep_best=False, patience=1)
    taught, measured = parted(Triplets.read(job.triplets), 0.3)
    assert (result["triplets"], len(taught) + len(measured)) == (len(taught), len(rows))
    assert trained(job, [rows[place] for place in taught])[0] == watched
    told = [(line["share"], line["validated"]) for line in said if "validated" in line]
    assert [share for share, _ in told] == [(place + 1) / len(told) for place in range(len(told))]
    assert [value for _, value in told] == pytest.approx([value for _, value in result["validations"]], abs=1e-6)
    kept, best, _ = trained(job, rows, validation_share=0.3, patience=1)
    assert best["validations"] == result["validations"][: len(best["validations"])]
    assert len(best["validations"]) < len(result["validations"])
    assert kept != watched


def test_of_the_negatives_the_first_are_used_and_the_others_are_as_if_they_were_not_there(job, rows):
    fewer, _, _ = trained(job, rows, negatives=1)
    assert fewer == trained(job, [{**row, "negatives": row["negatives"][:1]} for row in rows])[0]
    assert fewer != trained(job, rows)[0]
    assert trained(job, rows, negatives=7)[0] == trained(job, rows)[0]
