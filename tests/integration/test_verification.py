"""Verification: whatever is wrong with an index, promotion does not get it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.embeddings import Connection, Embeddings
from relevanced.daemon.errors import BadInput
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.ports import Encoder, Vectors, silent
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Document, Hit
from relevanced.daemon.verification import VerifyPolicy, verify_index


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database, IndexPolicy())


@pytest.fixture
def prepared(index: Index, encoder: Encoder, database: Database) -> int:
    """A version that holds 200 documents, of two words each out of 400."""
    rng = np.random.default_rng(7)
    words = [f"w{n}" for n in range(400)]
    load_documents(database, [Document(f"d{n:03}", " ".join(rng.choice(words, 2)), "") for n in range(200)], silent)
    with database.connection() as connection:
        version_id = history.register_version(connection, None)
    history.complete_version(database, version_id, Path("/m"), encoder.fingerprint, encoder.dimension, {})
    index.prepare(version_id, encoder, silent)
    return version_id


def test_a_sound_index_is_verified(prepared: int, index: Index, encoder: Encoder, database: Database) -> None:
    outcome = index.verify(prepared, encoder, ["w1 w2", "w3"])
    assert outcome.verdict == "accepted"
    assert outcome.sentence == (
        "Verified version 1: 200 documents, 64 of them encoded again alike; "
        f"recall@10 {outcome.numbers['recall@10']:.3f} against exact search on 2 queries, among 40 candidates."
    )
    assert history.version(database, prepared).state == "verified"
    assert index.verify(prepared, encoder, []).verdict == "accepted"  # it may be repeated


def test_a_version_that_was_not_prepared_is_not_looked_at(index: Index, encoder: Encoder, database: Database) -> None:
    with database.connection() as connection:
        version_id = history.register_version(connection, None)
    history.complete_version(database, version_id, Path("/m"), encoder.fingerprint, encoder.dimension, {})
    with pytest.raises(BadInput, match="Version 1 is candidate and has no complete index"):
        index.verify(version_id, encoder, [])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("DELETE FROM relevanced.embeddings_v1 WHERE document_id < 'd002'", "its index has 198 of 200 documents"),
        ("UPDATE relevanced.embeddings_v1 SET content_sha = 'x' WHERE document_id = 'd001'", "1 of them outdated"),
        (
            "INSERT INTO relevanced.embeddings_v1"
            " SELECT 'gone', 0, embedding, '' FROM relevanced.embeddings_v1 LIMIT 1",
            "and 1 that were deleted",
        ),
        (
            "UPDATE relevanced.embeddings_v1 AS mine SET embedding = other.embedding"
            " FROM relevanced.embeddings_v1 AS other WHERE other.document_id = 'd000'",
            "a document encoded again has cosine",
        ),
        ("DROP INDEX relevanced.embeddings_v1_hnsw", "Postgres would answer a search without its HNSW index"),
    ],
)
def test_a_fault_is_named_and_the_version_cannot_be_promoted(
    prepared: int, index: Index, encoder: Encoder, database: Database, fault: str, reason: str
) -> None:
    with database.connection() as connection:
        connection.execute(fault)
    outcome = index.verify(prepared, encoder, [])
    assert outcome.verdict == "rejected"
    assert reason in outcome.sentence
    with pytest.raises(BadInput, match="Version 1 is rejected, and only a verified version can be promoted"):
        Promotion(database).promote(prepared, actor="ada", reason="")
    index.prepare(prepared, encoder, silent)  # heals all but a vector that was exchanged
    assert (index.verify(prepared, encoder, []).verdict == "accepted") == ("cosine" not in reason)


def test_an_index_with_poor_recall_is_rejected(prepared: int, encoder: Encoder, database: Database) -> None:
    asking_too_much = IndexPolicy(verify=VerifyPolicy(min_recall=1.0), m=2, ef_construction=4, ef_search=10)
    with database.connection() as connection:
        connection.execute("DROP INDEX relevanced.embeddings_v1_hnsw")
    index = Index(database, asking_too_much)
    index.prepare(prepared, encoder, silent)
    outcome = index.verify(prepared, encoder, [f"w{n}" for n in range(60)])
    assert outcome.verdict == "rejected"
    assert "of the exact top 10 among 10 candidates; 1.0 is asked" in outcome.sentence


def test_documents_that_change_meanwhile_spoil_no_comparison(
    prepared: int, index: Index, encoder: Encoder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process deletes half of them, and follows, between the two searches that are compared."""
    search = Embeddings.search

    def overtaken(table: Embeddings, connection: Connection, *asked: Any, **more: Any) -> list[list[Hit]]:
        found = search(table, connection, *asked, **more)
        with psycopg.connect(database.url) as other:
            other.execute("DELETE FROM relevanced.document WHERE document_id < 'd100'")
            other.execute("DELETE FROM relevanced.embeddings_v1 WHERE document_id < 'd100'")
        return found

    monkeypatch.setattr(Embeddings, "search", overtaken)
    assert index.verify(prepared, encoder, [f"w{n}" for n in range(60)]).verdict == "accepted"


def test_as_few_candidates_are_looked_at_as_find_enough(prepared: int, encoder: Encoder, database: Database) -> None:
    with database.connection() as connection:
        connection.execute("DROP INDEX relevanced.embeddings_v1_hnsw")
    words = [f"w{n}" for n in range(60)]

    def chosen(min_recall: float) -> tuple[float, float]:
        policy = IndexPolicy(verify=VerifyPolicy(min_recall=min_recall), m=2, ef_construction=4)
        index = Index(database, policy)
        index.prepare(prepared, encoder, silent)
        numbers = index.verify(prepared, encoder, words).numbers
        with database.connection() as connection:
            (row,) = connection.execute("SELECT ef_search FROM relevanced.version WHERE version_id = 1")
        assert row["ef_search"] == numbers["ef_search"]
        return numbers["recall@10"], numbers["ef_search"]

    easy, few = chosen(0.1)
    assert few == 40
    recall, more = chosen(easy + 0.001)
    assert more > few
    assert recall > easy


def test_what_the_config_says_goes_before_what_verify_would_choose(
    prepared: int, encoder: Encoder, database: Database
) -> None:
    index = Index(database, IndexPolicy(ef_search=321))
    assert index.verify(prepared, encoder, []).numbers["ef_search"] == 321
    with database.connection() as connection:
        (row,) = connection.execute("SELECT ef_search FROM relevanced.version")
    assert row["ef_search"] is None


def test_changes_since_the_preparation_are_applied_first(
    prepared: int, index: Index, encoder: Encoder, database: Database
) -> None:
    load_documents(database, [Document("new", "zebra", "")], silent)
    assert index.verify(prepared, encoder, []).numbers["documents"] == 201


def test_changes_that_cannot_be_applied_yet_are_no_fault(
    prepared: int, index: Index, encoder: Encoder, database: Database
) -> None:
    with psycopg.connect(database.url) as still_open:
        still_open.execute("INSERT INTO relevanced.lease (name, holder, expires_at) VALUES ('x', 'x', now())")
        load_documents(database, [Document("new", "zebra", "")], silent)
        assert index.verify(prepared, encoder, []).verdict == "accepted"
    assert index.catch_up(prepared, encoder) == 1


def test_the_live_version_stays_verified_whatever_is_found(
    prepared: int, index: Index, encoder: Encoder, database: Database
) -> None:
    index.verify(prepared, encoder, [])
    Promotion(database).promote(prepared, actor="ada", reason="")
    with database.connection() as connection:
        connection.execute("DELETE FROM relevanced.embeddings_v1 WHERE document_id = 'd001'")
    assert index.verify(prepared, encoder, []).verdict == "rejected"
    assert history.version(database, prepared).state == "verified"


@pytest.mark.parametrize(("slowdown", "verdict"), [(1.9, "accepted"), (2.1, "rejected")])
def test_a_version_that_is_much_slower_than_live_is_rejected(
    prepared: int, encoder: Encoder, database: Database, slowdown: float, verdict: str
) -> None:
    """Time passes only while a text is encoded."""
    clock = Clock()
    live, slow = Taking(encoder, clock, 0.004), Taking(encoder, clock, 0.004 * slowdown)
    table = Embeddings(prepared, prepared)
    with database.connection() as connection:
        outcome = verify_index(
            connection,
            table,
            slow,
            ["w1 w2", "w3"],
            VerifyPolicy(),
            live=(table, live),
            now=lambda: clock.seconds,
        )
    assert outcome.verdict == verdict
    assert (outcome.numbers["search_ms"], outcome.numbers["live_search_ms"]) == pytest.approx((4 * slowdown, 4))
    if verdict == "rejected":
        assert outcome.sentence == (
            "Rejected version 1: it takes 8.4 ms for a search, live 4.0 ms; 2 times is the most."
        )


class Clock:
    seconds = 0.0


class Taking:
    """An encoder for which so many seconds pass with each text."""

    def __init__(self, encoder: Encoder, clock: Clock, seconds: float) -> None:
        self._encoder, self._clock, self._seconds = encoder, clock, seconds
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encoder.encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self._clock.seconds += len(texts) * self._seconds
        return self._encoder.encode_queries(texts)
