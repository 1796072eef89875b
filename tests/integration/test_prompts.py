"""What stands before a text is kept in a version's directory alone: training, gate, index and search read it there."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.ports import silent
from relevanced.daemon.training import TrainingJob, TrainingPolicy, train
from tests.tiny import WORDS, make_tiny_model

QUERY, DOCUMENT = "red small ", "large "


def triplets(query: str = "", document: str = "") -> pa.Table:
    """Triplets with these words before each text."""
    rows = [
        {
            "anchor": f"{query}the {word}",
            "query_key": word,
            "positive": f"{document}{word} of {WORDS[number - 1]}",
            "negatives": [f"{document}{WORDS[number - 2]} of {word}"],
            "weight": 1.0,
        }
        for number, word in enumerate(WORDS)
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def trained(tmp_path):
    """Trains on triplets from a base model that is adopted with these prompts; gives the store and both directories."""
    base = make_tiny_model(tmp_path / "tiny")

    def teach(name, rows, **prompts):
        store = ModelStore(tmp_path / name)
        first = store.adopt(ModelPolicy(base=str(base), **prompts), 1)
        store.write_manifest(first, {})
        file = tmp_path / f"{name}.parquet"
        pq.write_table(rows, file)
        policy = TrainingPolicy(batch_size=5, learning_rate=1e-2, threads=1)
        job = TrainingJob(
            base=first, triplets=file, directory=tmp_path / f"{name}.job", output=store.directory(2), policy=policy
        )
        train(job, silent)
        store.write_manifest(job.output, {})
        return store, first, job.output

    return teach


def prompts_in(directory):
    return json.loads((directory / "config_sentence_transformers.json").read_text())["prompts"]


def test_a_trained_version_has_seen_and_keeps_the_prompts_of_its_base(trained):
    store, first, second = trained("with", triplets(), query_prompt=QUERY, document_prompt=DOCUMENT)
    assert prompts_in(first) == prompts_in(second) == {"query": QUERY, "document": DOCUMENT}
    bare_store, _, by_hand = trained("by hand", triplets(QUERY, DOCUMENT), query_prompt="", document_prompt="")
    weights, others = (load_file(directory / "model.safetensors") for directory in (second, by_hand))
    assert all((weights[name] == others[name]).all() for name in weights), "training reads as if the words were typed"
    encoder, other = store.open(second), bare_store.open(by_hand)
    assert (encoder.encode_queries(["the eye"]) == other.encode_queries([f"{QUERY}the eye"])).all()
    assert (encoder.encode_documents(["the eye"]) == other.encode_documents([f"{DOCUMENT}the eye"])).all()
    assert encoder.fingerprint != other.fingerprint


def test_no_other_place_puts_anything_before_a_text():
    """Gate, index and search have a version's texts encoded by ModelStore.open, training by the encoder's tokenize."""
    root = Path(__file__).parents[2] / "daemon"
    reading = {file.name for file in root.rglob("*.py") if ".prompts" in file.read_text()}
    assert reading == {"encoder.py", "model_store.py"}, "the one reads them, the other writes them at adoption"
