"""
A version is mined and trained once more from the log, and comes out the same; all parts are real, the model is tiny.

The tests share one state directory, whose documents and log have changed since version 2 was trained.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.mining import mine
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document, SearchRequest, Version
from relevanced.daemon.reproducible import made_of, require_same_machine
from relevanced.daemon.reproduction import compared, make_again, reproduce
from relevanced.daemon.steps import prepare, train_candidate
from relevanced.daemon.wiring import Parts
from tests.commands import Give
from tests.tiny import WORDS, make_tiny_model

START = datetime(2026, 1, 1, tzinfo=UTC)
PAIRS = [f"{one} {other}" for one in WORDS for other in WORDS if one < other]
SETTINGS = """
[model]
base = "{base}"

[training]
batch_size = 16
learning_rate = 0.01

[schedule]
min_triplets = 10
"""


def search_and_click(parts: Parts, queries: list[str], client: str) -> None:
    """Ask for "small X Y" every few minutes, and click on "X Y" some seconds later, as no bot would."""
    times = [START + timedelta(minutes=place * place % 7 + 10 * place) for place in range(len(queries))]
    requests = [
        SearchRequest(f"small {name}", client_id=client, session_id=f"{client} {name}", timestamp=when)
        for name, when in zip(queries, times, strict=True)
    ]
    clicks = [
        {
            "action_name": "click",
            "query_id": answer.query_id,
            "client_id": client,
            "session_id": f"{client} {name}",
            "timestamp": (when + timedelta(seconds=5)).isoformat(),
            "event_attributes": {"object": {"object_id": name}},
        }
        for name, when, answer in zip(queries, times, parts.search.search(requests), strict=True)
        if name in {hit.document_id for hit in answer.hits}
    ]
    parts.sink.write(clicks)
    spool = parts.source_openers()["spool"]()
    consume_until_empty(spool, parts.log_store)
    spool.close()


@pytest.fixture(scope="module")
def parts(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Version 1 is live, version 2 was trained and prepared; then documents and log went on."""
    base = make_tiny_model(tmp_path_factory.mktemp("reproduce") / "tiny")
    (home / "relevanced.toml").write_text(SETTINGS.format(base=base))
    parts = Parts(home, load_settings(home / "relevanced.toml"), seed=0)
    load_documents(parts.database, [Document(name, name, "") for name in PAIRS], silent)
    make_first_version(parts.stages, parts.settings.model, silent)
    for client in ("ada", "ben", "cleo"):
        search_and_click(parts, PAIRS, client)
    cycle = begin_cycle(parts.database, "test")
    for step in (mine, train_candidate, prepare):
        step(parts.stages, cycle_of(parts.database, cycle.cycle_id), silent)
    search_and_click(parts, PAIRS[:20], "dan")
    changed = [Document(name, f"{name} changed", "") for name in PAIRS[::2]]
    load_documents(parts.database, changed, silent)
    with parts.database.connection() as connection:
        connection.execute("DELETE FROM relevanced.document WHERE document_id = %s", [PAIRS[1]])
    yield parts
    parts.close()


@pytest.fixture
def version(parts: Parts) -> Iterator[Version]:
    """Version 2, whose manifest a test may write into the database; it is put back."""
    found = history.version(parts.database, 2)
    yield found
    note(parts, found)


def note(parts: Parts, version: Version, **changed: Any) -> Version:
    """Let the database say of a version what it says, but for what is changed in its manifest."""
    row = (version.fingerprint, version.dimension, {**version.manifest, **changed})
    history.complete_version(parts.database, version.version_id, version.directory, *row)
    return history.version(parts.database, version.version_id)


def what_serves(parts: Parts) -> dict[str, str]:
    """Every row of the database and every file of the state directory that a reproduction might touch."""
    found = {}
    with parts.database.connection() as connection:
        for table in ("version", "cycle", "cycle_step", "serving", "embeddings_v1", "embeddings_v2", "outbox"):
            rows = connection.execute(f"SELECT * FROM relevanced.{table}").fetchall()  # type: ignore[call-overload]
            found[table] = repr(sorted(map(repr, rows)))
    for folder in ("cycles", "versions", "lake", "spool"):
        for file in (parts.home / folder).rglob("*"):
            found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return {**found, "snapshot": str(parts.log_store.snapshot())}


def test_a_version_is_reproduced_bit_for_bit_though_documents_and_log_went_on(
    parts: Parts, version: Version, give: Give, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = what_serves(parts)
    status, said, complaint = give("reproduce", "2", "--json")
    assert (status, complaint) == (0, "")
    numbers = json.loads(said)
    assert "and of them the same weights, bit for bit" in numbers["sentence"]
    assert (numbers["reproduced"], numbers["different_weights"]) == (True, [])
    assert set(numbers["triplets_sha256"].values()) == {version.manifest["triplets_sha256"]}
    assert numbers["threads"] == version.manifest["training"]["threads"]
    assert what_serves(parts) == before
    assert list(tmp_path.iterdir()) == [], "and nothing is left behind"


def test_another_training_is_told_by_its_weights_on_a_cpu_and_by_its_ranks_on_a_gpu(
    parts: Parts, version: Version, tmp_path: Path
) -> None:
    recipe = {**version.manifest["recipe"], "learning_rate": 0.02}
    made = made_of(parts.stages, note(parts, version, recipe=recipe))
    remade = make_again(parts.stages, made, tmp_path, silent)
    before = what_serves(parts)
    outcome = compared(parts.stages, version, made, remade, silent)
    assert (outcome.verdict, outcome.numbers["reproduced"]) == ("rejected", False)
    assert "other weights in model.safetensors; their losses part at step 2." in outcome.sentence
    by_ranks = replace(made, bit_for_bit=False)
    worse = compared(parts.stages, version, by_ranks, remade, silent)
    then, now = worse.numbers["ndcg@10"]["then"], worse.numbers["ndcg@10"]["now"]
    assert 0.002 < abs(then - now) < 1, "so far apart that it tells"
    assert (worse.verdict, f"is {now:.4f}, and the version's {then:.4f}" in worse.sentence) == ("rejected", True)
    like_it = replace(version, directory=remade.model)
    alike = compared(parts.stages, like_it, by_ranks, remade, silent)
    assert (alike.verdict, alike.numbers["ndcg@10"]) == ("accepted", {"then": now, "now": now})
    assert what_serves(parts) == before, "no vector goes into any table"


@pytest.mark.parametrize(
    ("triplets", "said"),
    [
        ({"min_grade": 0.9999}, "are missing"),
        ({"negatives": 1}, "are new"),
    ],
)
def test_other_triplets_are_counted_and_nothing_is_trained_on_them(
    parts: Parts, version: Version, give: Give, triplets: dict[str, float], said: str
) -> None:
    mining = version.manifest["mining"]
    note(parts, version, mining={**mining, "triplets": {**mining["triplets"], **triplets}})
    status, sentence, _ = give("reproduce", "2")
    assert (status, said in sentence) == (1, True), sentence
    assert sentence.startswith("Did not reproduce version 2: its triplets differ: ")
    assert sentence.count("\n") == 1


def test_stopped_when_it_trains_it_leaves_nothing(
    parts: Parts, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    heard: list[str] = []

    def stop(label: str, _done: int, _total: int, _detail: str = "") -> None:
        heard.append(label)
        if label == "Preparing to train":  # that a child which is under way ends is a matter of training
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(parts.stages, version, stop)
    assert heard == ["Mining again", "Mining again", "Preparing to train"]
    assert list(tmp_path.iterdir()) == []


def without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: {**manifest, "imported": {"from": "there"}}, "was imported"),
        (lambda manifest: {**manifest, "adapter": {}}, "is an adapter"),
        (lambda manifest: {**manifest, "trained_from": 7}, "went on from version 7"),
        (lambda manifest: {**manifest, "taught": {"new": 9, "replayed": 1}}, "taught anchors again"),
        (lambda manifest: without(manifest, "mining"), "trained by an older release"),
        (lambda manifest: {**manifest, "snapshot_id": 999}, "The log as of snapshot 999"),
        (lambda manifest: {**manifest, "cycle_id": 999}, "What the triplets were mined with is not whole"),
        (lambda manifest: {**manifest, "recipe": {"epochs": "many"}}, "The recipe of version 2 is of another release"),
        (lambda manifest: {**manifest, "mining": {"live_version": 1}}, "are of another release"),
    ],
)
def test_what_makes_it_impossible_is_one_sentence(
    parts: Parts, version: Version, give: Give, change: Callable[[Mapping[str, Any]], dict[str, Any]], said: str
) -> None:
    row = (version.fingerprint, version.dimension, change(version.manifest))
    history.complete_version(parts.database, 2, version.directory, *row)
    status, _, complaint = give("reproduce", "2")
    assert (status, said in complaint, complaint.count("\n")) == (2, True, 1), complaint


def test_the_base_model_was_not_trained_and_without_it_nothing_can_be(parts: Parts, give: Give) -> None:
    status, _, complaint = give("reproduce", "1")
    assert (status, "is the base model as it came" in complaint) == (2, True)
    base = parts.models.directory(1)
    away = base.rename(base.with_name("away"))
    try:
        status, _, complaint = give("reproduce", "2")
    finally:
        away.rename(base)
    assert (status, "The base model, version 1, is not there as it was" in complaint) == (2, True), complaint
    assert complaint.count("\n") == 1


def test_other_libraries_than_then_are_named(parts: Parts, give: Give) -> None:
    file = parts.models.directory(2) / "manifest.json"
    kept = file.read_text()
    manifest = json.loads(kept)
    file.write_text(json.dumps({**manifest, "libraries": {**manifest["libraries"], "torch": "2.0.1"}}))
    try:
        status, _, complaint = give("reproduce", "2")
    finally:
        file.write_text(kept)
    assert (status, "was made with torch 2.0.1 (" in complaint, complaint.count("\n")) == (2, True, 1), complaint


def test_the_same_bits_take_as_many_cores_and_the_same_kind_of_cpu(parts: Parts, version: Version) -> None:
    training = {**version.manifest["training"], "threads": 16, "cpu_kind": "avx avx2"}
    many = replace(version, manifest={**version.manifest, "training": training})
    require_same_machine(many, "avx avx2", 16)
    with pytest.raises(BadInput, match="with 16 threads, and there are 4 cores here"):
        require_same_machine(many, "avx avx2", 4)
    with pytest.raises(BadInput, match="which differs in avx2"):
        require_same_machine(many, "avx", 16)
    set_by_hand = replace(many, manifest={**many.manifest, "recipe": {**many.manifest["recipe"], "threads": 16}})
    require_same_machine(set_by_hand, "avx avx2", 4)


def test_what_a_version_has_cost_is_known_by_kind_and_device_once_it_is_prepared(
    parts: Parts, version: Version, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = version.manifest["cost"]
    assert {kind: list(spent) for kind, spent in cost.items()} == {
        "training": ["cpu"],
        "encoding": ["cpu"],
        "backfill": ["cpu"],
        "hnsw": ["postgres"],
    }
    assert cost["training"]["cpu"] == version.manifest["training"]["seconds"]
    assert 0 < cost["encoding"]["cpu"] <= cost["backfill"]["cpu"]
    assert json.loads((version.directory / "manifest.json").read_text())["cost"] == {"training": cost["training"]}
    parts.models.check(version.directory)
    parts.index.prepare(2, parts.models.open(version.directory), silent)  # encodes what has changed since
    again = history.version(parts.database, 2).manifest["cost"]
    assert again["encoding"]["cpu"] > cost["encoding"]["cpu"]
    shown = json.loads(give("versions", "show", "2", "--json")[1])
    assert shown["cost"] == again, "no price, no money"
    monkeypatch.setenv("RELEVANCED_PRICES__CPU_HOUR", "3600")
    shown = json.loads(give("versions", "show", "2", "--json")[1])["cost"]
    assert shown["currency"] == "EUR"
    assert shown["money"] == pytest.approx(
        again["training"]["cpu"] + again["encoding"]["cpu"] + again["hnsw"]["postgres"]
    )
    status, said, _ = give("versions", "show", "2")
    assert (status, "It was trained from version 1 on 101 triplets of cycle 1" in said) == (0, True), said
    assert f"Training took {again['training']['cpu']:.1f} s on a CPU." in said
    assert "At the prices of today that is" in said
    status, said, _ = give("versions", "show", "1")
    assert (status, "as it came." in said) == (0, True)
