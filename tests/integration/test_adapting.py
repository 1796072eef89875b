"""An adapter as a version: it searches the index of another, which follows the documents for as long as it does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from relevanced.daemon import history
from relevanced.daemon.adapted import ADAPTER
from relevanced.daemon.adapting import train_adapter_version
from relevanced.daemon.config import Settings
from relevanced.daemon.cycle import begin_cycle, cycle_of, run_cycle
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.exact_runs import exact_run
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.following import follow
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.ports import Encoder, silent
from relevanced.daemon.records import Cycle, Document, Outcome, SearchRequest, Serving
from relevanced.daemon.status import versions_table
from relevanced.daemon.steps import steps_of, train_candidate, verify_version
from relevanced.daemon.training import TrainingPolicy
from relevanced.daemon.tuned import Found
from relevanced.daemon.wiring import Parts
from relevanced.daemon.worth import AdapterPolicy
from tests.tiny import WORDS, make_tiny_model

PAIRS = [(one, other) for one in WORDS for other in WORDS if one < other]
NEW = Document("new", "skin pain", "left left left")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("adapting") / "tiny")


@pytest.fixture
def parts(new_database_url: Callable[[], str], tmp_path: Path, tiny: Path) -> Iterator[Parts]:
    """Version 1 is live, of a tiny model."""
    settings = Settings(
        database_url=SecretStr(new_database_url()),
        model=ModelPolicy(base=str(tiny)),
        training=TrainingPolicy(batch_size=16, threads=1),
        adapter=AdapterPolicy(mode="first", learning_rate=0.01, pull=0.0),
        gate=GatePolicy(min_queries=10, yearly_error=0.99, max_slice_loss=1),
    )
    parts = Parts(tmp_path / "home", settings)
    load_documents(parts.database, [Document(f"{one} {other}", f"{one} {other}", "") for one, other in PAIRS], silent)
    make_first_version(parts.stages, settings.model, silent)
    yield parts
    parts.close()


def new_cycle(parts: Parts) -> Cycle:
    """A cycle that has mined: who asks for "small X Y" wants "X Y"."""
    cycle = begin_cycle(parts.database, "test")
    names = [f"{one} {other}" for one, other in PAIRS]
    columns = {
        "query_key": [f"small {name}" for name in names],
        "anchor": [f"small {name}" for name in names],
        "positive_id": names,
        "positive": names,
        "negative_ids": [[other] for other in [*names[1:], "gone"]],
        "negatives": [[other] for other in [*names[1:], "gone"]],
        "weight": [1.0] * len(names),
        "source": ["clicks"] * len(names),
    }
    pq.write_table(pa.table(columns), parts.stages.files(cycle) / "triplets.parquet")
    return cycle


def new_adapter(parts: Parts) -> int:
    """Train one, and let the cycle end."""
    cycle = new_cycle(parts)
    outcome = train_adapter_version(parts.stages, cycle, {"clicks": len(PAIRS)}, silent)
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'ended', ended_at = now()")
    return int(outcome.numbers["version"])


def encoder_of(parts: Parts, version_id: int) -> Encoder:
    return parts.models.open(history.version(parts.database, version_id).directory)


def make_live(parts: Parts, version_id: int) -> None:
    encoder = encoder_of(parts, version_id)
    assert parts.index.prepare(version_id, encoder, silent).numbers["encoded"] == 0
    assert verify_version(parts.stages, history.version(parts.database, version_id), []).verdict == "accepted"
    parts.promotion.promote(version_id, actor="ada", reason="test")


def first_of(parts: Parts, version_id: int, query: str) -> str:
    (hits,) = parts.index.search(version_id, encoder_of(parts, version_id).encode_queries([query]), 1)
    assert hits[0].version_id == version_id
    return hits[0].document_id


def tables(parts: Parts) -> list[str]:
    with parts.database.connection() as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'embeddings_v%' ORDER BY 1")
        return [row["tablename"] for row in rows]


def test_it_is_the_same_model_with_a_matrix_on_its_queries(parts: Parts) -> None:
    version = history.version(parts.database, new_adapter(parts))
    base = history.version(parts.database, 1)
    assert (version.version_id, version.index_version_id, version.manifest["base"]) == (2, 1, 1)
    assert (version.directory / "model.safetensors").samefile(base.directory / "model.safetensors")
    assert (version.directory / ADAPTER).stat().st_size < 16 * 16 * 4 + 200
    assert (
        "multiplied, as a row, by the matrix in query_adapter.safetensors"
        in (version.directory / "README.md").read_text()
    )
    assert version.fingerprint != base.fingerprint

    mine, plain = (ModelStore(parts.home / "versions").open(one.directory) for one in (version, base))
    texts = ["small heart", "the left ear"]
    np.testing.assert_array_equal(mine.encode_documents(texts), plain.encode_documents(texts))
    turned = mine.encode_queries(texts)
    assert np.abs(turned - plain.encode_queries(texts)).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-5)


def test_its_searches_are_answered_by_the_index_it_shares_and_nothing_is_encoded_for_it(parts: Parts) -> None:
    version_id = new_adapter(parts)
    encoder = encoder_of(parts, version_id)
    assert parts.index.prepare(version_id, encoder, silent).sentence == (
        f"Prepared version 2: it searches the index of version 1, with {len(PAIRS)} documents; nothing was encoded or"
        " built for it."
    )
    verified = verify_version(parts.stages, history.version(parts.database, version_id), ["small heart", "left ear"])
    assert (verified.verdict, verified.numbers["documents"]) == ("accepted", len(PAIRS))
    assert parts.index.prepare(version_id, encoder, silent).numbers["encoded"] == 0
    assert history.version(parts.database, version_id).state == "verified", "preparing again takes nothing back"

    names, vectors = parts.index.vectors(1, None)
    asked = encoder.encode_queries(["small bone ear"])
    (hits,) = parts.index.search(version_id, asked, 5)
    assert [hit.document_id for hit in hits] == [names[place] for place in np.argsort(-(asked @ vectors.T)[0])[:5]]
    assert {hit.version_id for hit in hits} == {version_id}
    assert [hit.score for hit in parts.index.score(version_id, asked[0], [hits[2].document_id])] == [hits[2].score]
    run = exact_run(parts.stages, version_id, {"q": "small bone ear"}, None, silent)
    assert list(run["q"])[:5] == [hit.document_id for hit in hits]
    assert tables(parts) == ["embeddings_v1"]


def test_what_it_learned_holds_for_queries_that_it_did_not_learn_from(parts: Parts) -> None:
    """As it says itself: the loss is that of the queries that only check."""
    numbers = history.version(parts.database, new_adapter(parts)).manifest["adapter"]
    assert numbers["loss"] < 0.9 * numbers["plain_loss"]


def test_it_goes_live_and_back_as_any_version(parts: Parts) -> None:
    make_live(parts, new_adapter(parts))
    (answer,) = parts.search.search([SearchRequest("small heart ear", 3)])
    assert (answer.version_id, {hit.version_id for hit in answer.hits}) == (2, {2})
    assert [hit.document_id for hit in answer.hits][:1] == [first_of(parts, 2, "small heart ear")]
    parts.promotion.rollback(actor="ada", reason="test")
    assert parts.search.search([SearchRequest("small heart ear", 3)])[0].version_id == 1
    parts.promotion.rollback(actor="ada", reason="test")
    assert parts.promotion.serving() == Serving(2, 1)


def test_the_index_follows_the_documents_though_its_owner_is_neither_live_nor_previous_nor_kept(parts: Parts) -> None:
    make_live(parts, new_adapter(parts))
    make_live(parts, new_adapter(parts))
    assert parts.promotion.serving() == Serving(3, 2)
    assert history.version(parts.database, 3).index_version_id == 1, "an adapter to an adapter shares the same index"
    parts.models.check(history.version(parts.database, 2).directory)  # and leaves the other's matrix as it was
    history.set_state(parts.database, 1, "rejected")
    load_documents(parts.database, [NEW], silent)
    assert parts.index.is_behind(2)
    assert follow(parts.stages).sentence == "Versions kept up to date: 2 and 3; 1 changed documents."
    assert not parts.index.is_behind(2)
    assert not parts.index.is_behind(3)
    for version_id in (2, 3):
        hits = parts.index.score(version_id, encoder_of(parts, version_id).encode_queries(["skin pain"])[0], ["new"])
        assert [hit.document_id for hit in hits] == ["new"]
    parts.promotion.rollback(actor="ada", reason="test")
    assert verify_version(parts.stages, history.version(parts.database, 2), []).verdict == "accepted"


def test_changes_wait_in_the_outbox_for_an_index_that_only_an_adapter_searches(parts: Parts) -> None:
    """Another index, which is ahead, must not trim them away."""
    make_live(parts, new_adapter(parts))
    other = parts.models.adopt(ModelPolicy(base=str(parts.settings.model.base), query_prompt="the "), 9)
    parts.models.write_manifest(other, {})
    encoder = parts.models.open(other)
    with parts.database.connection() as connection:
        number = history.register_version(connection, None)
    history.complete_version(parts.database, number, other, encoder.fingerprint, encoder.dimension, {})
    parts.index.prepare(number, encoder, silent)
    history.set_state(parts.database, 1, "rejected")
    load_documents(parts.database, [NEW], silent)
    assert parts.index.catch_up(number, encoder) == 1
    assert parts.index.catch_up(2, encoder_of(parts, 2)) == 1
    with parts.database.connection() as connection:
        assert connection.execute("SELECT FROM relevanced.outbox").rowcount == 0, "once both have it, it goes"


def test_an_adapter_that_waits_for_more_queries_keeps_its_index_following(parts: Parts) -> None:
    version_id = new_adapter(parts)
    assert history.version(parts.database, version_id).state == "candidate"
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.serving SET live_version_id = NULL")
    history.set_state(parts.database, 1, "rejected")
    load_documents(parts.database, [NEW], silent)
    assert follow(parts.stages).numbers["changed_documents"] == 1
    assert "new" in parts.index.vectors(version_id, None)[0]


class Killed(BaseException):
    pass


def test_preparing_the_owner_anew_skips_no_change(parts: Parts) -> None:
    """It would begin at the present, and what the kept adapters have not seen would never come."""
    make_live(parts, new_adapter(parts))
    history.set_state(parts.database, 1, "rejected")
    load_documents(parts.database, [NEW], silent)

    def killed(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        parts.index.prepare(1, encoder_of(parts, 1), killed)
    assert history.version(parts.database, 1).state == "candidate"
    assert parts.index.is_behind(2)
    follow(parts.stages)
    assert "new" in parts.index.vectors(2, None)[0]


def test_the_owner_cannot_be_removed_while_an_adapter_searches_its_index(parts: Parts) -> None:
    new_adapter(parts)
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.serving SET live_version_id = NULL")
        connection.execute("DELETE FROM relevanced.serving_history")
        connection.execute("UPDATE relevanced.version SET parent_version_id = NULL")
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="index_version_id"):
            connection.execute("DELETE FROM relevanced.version WHERE version_id = 1")
        connection.rollback()


def test_an_adapter_outlives_the_files_of_the_version_it_builds_on(parts: Parts) -> None:
    """Its own directory is whole, and encodes new documents for the shared index too."""
    make_live(parts, new_adapter(parts))
    directory = history.version(parts.database, 1).directory
    directory.rename(directory.with_name("gone"))
    store = ModelStore(parts.home / "versions")
    load_documents(parts.database, [NEW], silent)
    assert parts.index.catch_up(2, store.open(history.version(parts.database, 2).directory)) == 1


def test_an_adapter_whose_index_nobody_keeps_is_not_prepared(parts: Parts) -> None:
    version_id = new_adapter(parts)
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.serving SET live_version_id = NULL")
    for number in (1, version_id):
        history.set_state(parts.database, number, "rejected")
    encoder = encoder_of(parts, version_id)
    with pytest.raises(BadInput, match="searches the index of version 1, which no longer follows the documents"):
        parts.index.prepare(version_id, encoder, silent)
    parts.index.prepare(1, encoder_of(parts, 1), silent)
    parts.index.prepare(version_id, encoder, silent)
    assert history.version(parts.database, version_id).state == "prepared"


def test_a_model_that_encodes_documents_in_another_way_is_never_mixed_in(parts: Parts, tmp_path: Path) -> None:
    other = parts.models.adopt(ModelPolicy(base=str(make_tiny_model(tmp_path / "other", seed=1))), 2)
    parts.models.write_manifest(other, {})
    encoder = parts.models.open(other)
    with parts.database.connection() as connection:
        number = history.register_version(connection, None)
    history.complete_version(parts.database, number, other, encoder.fingerprint, encoder.dimension, {}, 1)
    for verb in (
        lambda: parts.index.embed(number, encoder, None, silent),
        lambda: parts.index.catch_up(number, encoder),
    ):
        with pytest.raises(FailStep, match="does not encode documents as that one does"):
            verb()


def test_a_matrix_that_was_touched_is_not_used(parts: Parts) -> None:
    directory = history.version(parts.database, new_adapter(parts)).directory
    data = bytearray((directory / ADAPTER).read_bytes())
    data[-1] ^= 1
    (directory / ADAPTER).write_bytes(data)
    with pytest.raises(FailStep, match=r"query_adapter\.safetensors is not the file"):
        ModelStore(parts.home / "versions").open(directory)


def test_the_step_train_leaves_both_and_begun_again_the_same(parts: Parts) -> None:
    cycle = new_cycle(parts)
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'train'")
    found = {"search": 3, "trial": 7, "cycle_id": 1, "rank": 0, "gain": 0.1, "low": 0.05, "found_at": "2026-02-03"}
    parts.tuned.keep(Found(**found, settings={"epochs": 2}))
    outcome = train_candidate(parts.stages, cycle, silent)
    assert outcome.sentence.startswith(
        "Trained version 2, a query-side adapter on the index of version 1, on 91 triplets"
    )
    assert "Trained candidate 3 from base version 1 on 91 triplets" in outcome.sentence
    assert outcome.sentence.endswith(" s, by search 3, trial 7.")
    manifest = history.version(parts.database, 3).manifest
    assert (manifest["recipe_from"], manifest["recipe"]["epochs"], manifest["training"]["steps"]) == (
        "search 3, trial 7",
        2,
        12,
    )
    assert outcome.numbers["adapter"]["version"] == 2
    before = encoder_of(parts, 2).encode_queries(["small heart"])
    again = cycle_of(parts.database, cycle.cycle_id)
    assert (again.adapter_version_id, again.candidate_version_id) == (2, 3)
    train_candidate(parts.stages, again, silent)
    np.testing.assert_array_equal(encoder_of(parts, 2).encode_queries(["small heart"]), before)
    assert [one.version_id for one in history.versions(parts.database)] == [1, 2, 3]


def test_nothing_that_holds_leaves_no_version(parts: Parts) -> None:
    cycle = new_cycle(parts)
    file = parts.stages.files(cycle) / "triplets.parquet"
    rows = pq.read_table(file)
    names = rows["positive_id"].to_pylist()
    rng = np.random.default_rng(0)
    shuffled = pa.array(rng.permutation(names))
    pq.write_table(rows.set_column(2, "positive_id", shuffled), file)
    object.__setattr__(parts.stages, "adapter", AdapterPolicy(mode="first", learning_rate=0.5, pull=0.0))
    outcome = train_adapter_version(parts.stages, cycle, {}, silent)
    assert outcome.sentence == "No adapter was kept: what it learned does not hold for other queries."
    assert [one.version_id for one in history.versions(parts.database)] == [1]
    pq.write_table(rows.slice(0, 0), file)
    assert train_adapter_version(parts.stages, cycle, {}, silent).sentence.startswith("No adapter was trained: ")


def test_a_cycle_promotes_the_adapter_and_builds_no_index_where_that_is_enough(parts: Parts) -> None:
    cycle = new_cycle(parts)
    rows = pq.read_table(parts.stages.files(cycle) / "triplets.parquet").to_pylist()
    held_out = [
        {"query_key": row["query_key"], "user_query": row["anchor"], "document_id": other["positive_id"]}
        | {"grade": 0.9 if row is other else 0.0, "weight": 0.9, "inclusion": 1.0, "held_out_by": "hash"}
        for row in rows
        for other in rows
    ]
    pq.write_table(pa.Table.from_pylist(held_out), parts.stages.files(cycle) / "holdout.parquet")
    with parts.database.connection() as connection:
        connection.execute("UPDATE relevanced.cycle SET step = 'train'")
    sentences: dict[str, str] = {}

    def tell(step: str, outcome: Outcome, _seconds: float) -> None:
        sentences[step] = outcome.sentence

    cycle = cycle_of(parts.database, cycle.cycle_id)
    run_cycle(parts.database, cycle, steps_of(parts.stages), max_attempts=1, progress=silent, tell=tell)
    assert sentences["gate"].startswith("Accepted candidate 2: NDCG@10 rose by"), sentences
    assert sentences["index"].startswith("Prepared version 2: it searches the index of version 1")
    assert sentences["verify"].startswith("Verified version 2")
    assert sentences["promote"].startswith("Promoted version 2 in place of 1")
    assert parts.promotion.serving() == Serving(2, 1)
    assert history.version(parts.database, 3).state == "rejected"
    table = versions_table(history.versions(parts.database), parts.promotion.serving(), {1: 5_000_000})
    assert list(table.columns[2].cells) == ["rejected", "verified, on the index of 1", "verified"]
    # The gate has encoded the documents with the full fine-tuning, to compare it; of the adapter there is nothing.
    assert tables(parts) == ["embeddings_v1", "embeddings_v3"]
