"""What comes from the Hugging Face Hub, and what goes there, over its own protocol."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from relevanced.daemon.base_models import origin_of
from relevanced.daemon.errors import BadInput
from relevanced.daemon.hub import fetch, upload
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from tests.bare import make_bare_model
from tests.hub import Hub, hub, on_hub


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with a bare model and what may not come along, an empty cache, and the operator's leave to fetch."""
    with hub() as found:
        bare = make_bare_model(tmp_path / "bare")
        (bare / "pytorch_model.bin").write_bytes(b"would run code")
        (bare / "modeling.py").write_text("would run")
        (bare / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
        found.models["org/bare"] = {file.name: file.read_bytes() for file in bare.iterdir()}
        on_hub(monkeypatch, found, tmp_path)
        monkeypatch.delenv("HF_TOKEN")
        yield found


def test_only_plain_files_are_fetched_and_the_cache_does_where_the_hub_is_away(there, tmp_path, monkeypatch):
    directory = fetch("org/bare", 1)
    assert directory.name == there.revision("org/bare")
    names = {file.name for file in directory.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not {"pytorch_model.bin", "modeling.py"} & names
    asked = len(there.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (fetch("org/bare", 1), len(there.asked)) == (directory, asked)
    store = ModelStore(tmp_path / "versions")
    with pytest.raises(BadInput, match="does not say how it pools"):
        store.adopt(ModelPolicy(base="org/bare"), 1)
    assert store.adopt(ModelPolicy(base="org/bare", pooling="cls"), 1).exists()
    assert origin_of("org/bare") == {"base": "org/bare", "revision": directory.name, "licence": "mit"}
    monkeypatch.delenv("HF_HUB_OFFLINE")
    there.models.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch("org/bare", 1) == directory


def test_what_cannot_be_fetched_is_one_sentence(there, monkeypatch):
    there.gated.add("org/gated")
    there.models["org/gated"] = {}
    for hf_id, sentence in (
        ("org/unknown", "the Hugging Face Hub knows no model org/unknown"),
        ("org/gated", "given only to those who agree to its terms; do so at https://huggingface.co/org/gated"),
        ("org/--", "is no id of the Hugging Face Hub"),
    ):
        with pytest.raises(BadInput, match=sentence) as refused:
            fetch(hf_id, 1)
        assert "\n" not in str(refused.value)
    there.claimed_size = 3_000_000_000
    asked = len(there.asked)
    with pytest.raises(BadInput, match=r"org/bare has \d+\.0 GB, and max_download_gb allows 1; raise it"):
        fetch("org/bare", 1)
    assert not any("/resolve/" in path for path in there.asked[asked:])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        BadInput, match="is not in the cache of this machine, and the Hugging Face Hub does not give it"
    ):
        fetch("org/other", 1)


def test_a_directory_becomes_a_private_model_and_what_was_there_of_files_goes(there, tmp_path, monkeypatch):
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="no token to write to org/mine with; set HF_TOKEN"):
        upload(directory, "org/mine", private=True, message="first")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(BadInput, match="does not take org/mine: ") as refused:
        upload(directory, "org/mine", private=True, message="first")
    assert ("hf_wrong" in str(refused.value), "\n" in str(refused.value)) == (False, False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    there.models["org/mine"] = {"old.safetensors": b"old", "NOTES.md": b"by hand"}
    address = upload(directory, "org/mine", private=True, message="first")
    assert there.models["org/mine"] == {"config.json": b"{}", "NOTES.md": b"by hand"}
    assert address == f"{there.url}/org/mine/commit/{there.revision('org/mine')}"
    upload(directory, "org/new", private=True, message="first")
    assert there.private["org/new"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE forbids to send anything to org/mine"):
        upload(directory, "org/mine", private=True, message="second")


@pytest.mark.parametrize(
    ("operator", "fetched"), [({}, True), ({"HF_HUB_OFFLINE": "1"}, False), ({"TRANSFORMERS_OFFLINE": "1"}, False)]
)
def test_libraries_stay_offline_while_the_daemon_fetches_what_it_was_told_to(there, tmp_path, operator, fetched):
    program = (
        "from relevanced.daemon.hub import fetch, keep_libraries_offline as keep; keep();"
        "import huggingface_hub as hub; assert hub.is_offline_mode();"
        "fetch('org/bare', 1); assert hub.is_offline_mode()"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment = {**inherited, "HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "home"), **operator}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == fetched, done.stderr
    assert fetched or "HF_HUB_OFFLINE forbids to fetch it" in done.stderr
    assert bool(there.asked) == fetched
