"""What an index takes, worked out before it is built and compared with one that was; and the commands of operations."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.embeddings import Embeddings, Encoded
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.planning import plan_index
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document
from relevanced.daemon.sizing import index_size
from relevanced.daemon.version_files import import_version
from relevanced.daemon.wiring import Parts
from tests.commands import Give
from tests.tiny import WORDS, make_tiny_model


@pytest.mark.parametrize(("dimension", "m", "rows"), [(64, 16, 2600), (384, 8, 1800), (1024, 16, 850)])
def test_bytes_and_memory_are_those_of_an_index_that_was_built(
    database: Database, dimension: int, m: int, rows: int
) -> None:
    rng = np.random.default_rng(0)
    embeddings = Embeddings(1, 1)
    vectors = rng.standard_normal((rows, dimension), dtype=np.float32)
    notices: list[str] = []
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO relevanced.document (document_id, title, text)"
            " SELECT 'HP:' || lpad(n::text, 7, '0'), n::text, '' FROM generate_series(0, %s) AS n",
            [rows - 1],
        )
        embeddings.create(connection, dimension)
        shas = connection.execute("SELECT document_id, content_sha FROM relevanced.document").fetchall()
        encoded = [Encoded(row["document_id"], v, row["content_sha"]) for row, v in zip(shas, vectors, strict=True)]
        embeddings.write(connection, encoded)
        found = index_size(rows, dimension, m=m, id_bytes=10)
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [f"{found.graph >> 20}MB"])
        embeddings.build_hnsw(connection, m=m, ef_construction=32)
        (row,) = connection.execute(
            "SELECT pg_relation_size('relevanced.embeddings_v1_hnsw') AS hnsw,"
            " pg_total_relation_size('relevanced.embeddings_v1') AS total"
        )
    assert found.hnsw == pytest.approx(row["hnsw"], rel=0.03)
    assert found.table == pytest.approx(row["total"] - row["hnsw"], rel=0.2)
    (full,) = [int(notice.split()[-2]) for notice in notices if "no longer fits" in notice]
    assert full == pytest.approx(rows * (found.graph >> 20 << 20) / found.graph, rel=0.02)


def test_a_graph_that_gets_less_memory_than_it_needs_does_not_fit() -> None:
    small, large = (index_size(rows, 384, m=16, id_bytes=10).graph for rows in (1, 200_000))
    assert (small, large) == (1482, pytest.approx(283 << 20, rel=0.01)), "a little more than the default of 256 MB"


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a tiny model, 70 documents, and versions 1 to 5, of which 4 is live."""
    found, models = new_home(), tmp_path_factory.mktemp("models")
    base = make_tiny_model(models / "tiny")
    (found / "relevanced.toml").write_text(
        f'[model]\nbase = "{base}"\n[retention]\nfresh = 1\n[prices]\ncpu_hour = 36\n[index]\nbuild_workers = 0\n'
    )
    rng = np.random.default_rng(0)
    corpus = [Document(f"d{n}", "", " ".join(rng.choice(WORDS, 5))) for n in range(70)]
    parts = Parts(found, load_settings(found / "relevanced.toml"))
    load_documents(parts.database, corpus, silent)
    make_first_version(parts.stages, parts.settings.model, silent)
    for number in (2, 3, 4, 5):
        import_version(parts.stages, ModelPolicy(base=str(make_tiny_model(models / f"m{number}", seed=number))), None)
    for number in (2, 3, 4):
        encoder = parts.models.open(parts.models.directory(number))
        parts.index.prepare(number, encoder, silent)
        assert parts.index.verify(number, encoder, []).verdict == "accepted"
        parts.promotion.promote(number, actor="ada", reason="by hand")
    parts.close()
    return found


@pytest.fixture
def loaded(give: Give, home: Path) -> Give:
    return give


def listed(give: Give) -> list[dict[str, Any]]:
    return json.loads(give("versions", "--json")[1])["versions"]


def states(give: Give) -> dict[int, str]:
    return {row["version_id"]: row["state"] for row in listed(give)}


def test_the_plan_of_a_version_without_an_index_says_all_that_it_takes(loaded: Give) -> None:
    status, said, _ = loaded("plan", "5")
    assert status == 0
    assert said.startswith("The index of version 5 has 70 documents of 16 dimensions; 70 are to be encoded.\n")
    assert "0.0 MB are there already.\nThe disk of Postgres has " in said
    assert "to encode on cpu, by 64 documents of it, and" in said
    assert "At the prices of today that is" in said
    numbers = json.loads(loaded("plan", "5", "--json")[1])
    assert (numbers["to_encode"], numbers["present_bytes"], numbers["fits"]) == (70, 0, True)
    seconds = numbers["encode_seconds"] + numbers["hnsw_seconds"]
    assert seconds > 0
    assert numbers["money"] == pytest.approx(seconds / 100)
    assert json.loads(loaded("plan", "4", "--json")[1])["to_encode"] == 0
    assert loaded("plan", "9")[0] == 2


def test_the_plan_says_what_to_set_where_the_graph_does_not_fit(loaded: Give, home: Path) -> None:
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    try:
        version = history.version(parts.database, 5)
        args = (parts.database, parts.models, version, parts.settings.index, parts.settings.prices)
        plan = replace(plan_index(*args, None), graph_bytes=300 << 20)
        said = list(plan.sentences())
        assert any(s.endswith("with the 256 of build_memory_mb; set that to 304 under [index].") for s in said)
        assert any(s.startswith("How much room its disk has is not known") for s in said)
        full = plan_index(*args, 1000)
        assert (
            full.fits,
            any("only 0.0 MB left, so `relevanced prepare 5` refuses" in s for s in full.sentences()),
        ) == (
            False,
            True,
        )
    finally:
        parts.close()


def test_history_and_versions_at_a_time(loaded: Give) -> None:
    changes = json.loads(loaded("history", "--json")[1])[::-1]
    assert [row["live_version_id"] for row in changes][:4] == [1, 2, 3, 4]
    status, said, _ = loaded("history", "--limit", "1")
    assert (status, said.count("\n"), " in place of " in said, ": by hand" in said) == (0, 1, True, True)
    second = datetime.fromisoformat(changes[1]["changed_at"])
    just_before = (second - timedelta(microseconds=1)).isoformat()
    assert json.loads(loaded("versions", "at", just_before, "--json")[1])["live_version"] == 1
    status, said, _ = loaded("versions", "at", second.astimezone(UTC).replace(tzinfo=None).isoformat())
    assert (status, said.startswith("Version 2 was live at ")) == (0, True)
    for time, sentence in (
        ("yesterday", "yesterday is no time; write one as in 2026-01-31 or 2026-01-31T09:00+01:00."),
        ("2001-01-01", "No version was live at 2001-01-01 00:00:00 UTC; the first came "),
        ("9999-01-01", "is still to come"),
    ):
        status, _, complaint = loaded("versions", "at", time)
        assert (status, sentence in complaint, complaint.count("\n")) == (2, True, 1), complaint


def test_show_tells_what_became_of_a_version(loaded: Give) -> None:
    said = loaded("versions", "show", "2")[1]
    assert "Its index takes 0." in said
    assert "and does not follow the documents.\n" in said
    assert "UTC: Promoted version 2 in place of 1, by " in said
    assert "UTC: Promoted version 3 in place of 2, by " in said
    lineage = json.loads(loaded("versions", "show", "2", "--json")[1])["lineage"]
    assert [change["live_version_id"] for change in lineage["changes"]] == [2, 3]
    assert "It has no index; `relevanced prepare 5` builds one." in loaded("versions", "show", "5")[1]
    assert {row["version_id"]: row["index_bytes"] is None for row in listed(loaded)}[5]
    assert "retired" in loaded("versions")[1]


def test_the_way_back_to_a_version_that_is_too_far_back_is_planned_built_verified_and_gone(loaded: Give) -> None:
    assert states(loaded) == {1: "verified", 2: "retired", 3: "verified", 4: "verified", 5: "candidate"}
    status, said, _ = loaded("versions", "drop", "2")
    assert (status, said) == (0, "Dropped index of version 2. `relevanced prepare 2` builds it again from the model.\n")
    status, said, _ = loaded("rollback", "--to", "2", "--dry-run")
    assert (status, said.splitlines()[0]) == (
        0,
        "Version 2 no longer follows the documents; its index is built again, and then it is live.",
    )
    assert "70 are to be encoded" in said
    assert said.endswith("Nothing was changed; version 2 would be live after that.\n")
    assert states(loaded)[2] == "retired"
    status, said, complaint = loaded("rollback", "--to", "2", "--reason", "it was the best")
    assert status == 0, complaint
    assert "Prepared version 2: 70 documents, 70 of them encoded now. Rolled back from version 4 to 2;" in said
    assert json.loads(loaded("search", "the eye", "--json")[1])["version_id"] == 2
    assert states(loaded)[4] == "verified"
    assert states(loaded)[3] == "retired"


def test_the_way_back_to_a_fresh_version_takes_no_work(loaded: Give) -> None:
    (live, *_) = [row["live_version_id"] for row in json.loads(loaded("history", "--json")[1])]
    other = 4 if live == 2 else 3
    said = loaded("rollback", "--to", str(other), "--dry-run")[1]
    assert said == f"Nothing was changed; version {other} would be live at once.\n"
    assert loaded("rollback", "--to", str(other))[1].startswith(f"Rolled back from version {live} to {other};")
    for words, sentence in (
        (("--to", str(other)), f"Version {other} is live already"),
        (("--to", "5"), "Version 5 was never live"),
        (("--dry-run",), "--dry-run is about one version"),
    ):
        status, _, complaint = loaded("rollback", *words)
        assert (status, complaint.startswith(sentence), complaint.count("\n")) == (2, True, 1), complaint


def test_without_its_model_there_is_no_way_back(loaded: Give, home: Path) -> None:
    retired = next(number for number, state in states(loaded).items() if state == "retired")
    assert loaded("versions", "drop", str(retired), "--model")[0] == 0
    assert not (home / "versions" / f"v{retired}").exists()
    status, _, complaint = loaded("rollback", "--to", str(retired))
    assert (status, complaint.startswith(f"The model of version {retired} was dropped ")) == (2, True)
    status, _, complaint = loaded("prepare", str(retired))
    assert (status, "is not there; the model was dropped" in complaint) == (1, True)
    assert "so no index can be built for it" in loaded("versions", "show", str(retired))[1]
    status, _, complaint = loaded("versions", "drop", "--model")
    assert (status, "name it, as in" in complaint) == (2, True)
    assert loaded("versions", "drop")[1] == "No version has more than is kept.\n"
