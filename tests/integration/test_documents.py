"""The documents' table and its outbox."""

from collections.abc import Iterator

import pytest

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.documents import delete_documents, document_ids, document_texts, full_text_search, load_documents
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document

FEVER, COUGH = Document("fever", "Fever", "A raised temperature."), Document("cough", "Cough", "")


def changes(database: Database) -> list[str]:
    with database.connection() as connection:
        rows = connection.execute("SELECT document_id FROM relevanced.outbox ORDER BY transaction_id, position")
        return [row["document_id"] for row in rows]


def test_documents_are_added_changed_and_left_alone(database: Database) -> None:
    first = load_documents(database, [FEVER, COUGH], silent)
    assert first.sentence == "Loaded 2 documents: 2 new, 0 changed."
    second = load_documents(database, [FEVER, Document("cough", "Cough", "Of the chest.")], silent)
    assert second.numbers == {"documents": 2, "added": 0, "changed": 1}
    assert document_ids(database) == ["cough", "fever"]
    assert document_texts(database, ["cough", "nothing"]) == {"cough": "Cough. Of the chest."}


def test_deleted_documents_are_gone_and_unknown_ids_are_counted(database: Database) -> None:
    load_documents(database, [FEVER, COUGH], silent)
    assert delete_documents(database, ["cough", "nothing", "cough"]).sentence == (
        "Deleted 1 documents. 1 ids are those of no document."
    )
    assert document_ids(database) == ["fever"]
    assert changes(database) == ["cough", "fever", "cough"]


def test_a_document_that_stays_the_same_leaves_no_row_in_the_outbox(database: Database) -> None:
    load_documents(database, [FEVER, COUGH], silent)
    assert changes(database) == ["cough", "fever"]
    load_documents(database, [FEVER, COUGH], silent)
    with database.connection() as connection:
        connection.execute("UPDATE relevanced.document SET title = title, text = text")
    assert changes(database) == ["cough", "fever"]


def test_every_kind_of_change_is_in_the_outbox(database: Database) -> None:
    load_documents(database, [FEVER, COUGH], silent)
    for statement in (
        "UPDATE relevanced.document SET text = 'Dry.' WHERE document_id = 'cough'",
        "UPDATE relevanced.document SET document_id = 'heat' WHERE document_id = 'fever'",
        "DELETE FROM relevanced.document WHERE document_id = 'cough'",
    ):
        with database.connection() as connection:
            connection.execute(statement)
    assert changes(database)[2:] == ["cough", "heat", "fever", "cough"]


def test_a_text_that_moves_between_title_and_text_is_a_change(database: Database) -> None:
    load_documents(database, [Document("d", "ab", "c")], silent)
    assert load_documents(database, [Document("d", "a", "bc")], silent).numbers["changed"] == 1
    assert changes(database) == ["d", "d"]


def test_a_reading_that_fails_on_the_way_leaves_nothing(database: Database) -> None:
    def broken() -> Iterator[Document]:
        yield FEVER
        raise BadInput("corpus.jsonl, line 2: broken")

    with pytest.raises(BadInput, match="line 2"):
        load_documents(database, broken(), silent)
    assert document_ids(database) == []
    assert changes(database) == []


def test_progress_tells_how_many_were_read(database: Database) -> None:
    told: list[int] = []
    documents = (Document(str(number), "", "x") for number in range(1500))
    load_documents(database, documents, lambda label, done, total: told.append(done))
    assert told == [1000, 1500]


FILES = [
    Document(f"copy{number}", "Copy", f"Copy the file{' and the file' * number} to the directory.")
    for number in range(40)
] + [Document("link", "ln", "Make a symbolic link to the file."), Document("größe", "du", "Die Größe der Datei.")]


def test_full_text_search_ranks_by_rare_words_and_finds_documents_that_hold_some_of_them(database: Database) -> None:
    load_documents(database, FILES, silent)
    found = full_text_search(database, ["the symbolic directory of the file", "größe ändern", "LINK"], 3, 10_000)
    assert found == {"the symbolic directory of the file": ["link"], "größe ändern": ["größe"], "LINK": ["link"]}


@pytest.mark.parametrize(
    "text", ["!!!", "' | 'y", "x & !y <-> (z", "\\", "%s %(k)s", "x:*", "the", "ä" * 2000, "http://a.b/?c=1&d='"]
)
def test_full_text_search_takes_any_text(database: Database, text: str) -> None:
    load_documents(database, FILES, silent)
    assert full_text_search(database, [text, "link"], 3, 10_000) == {text: [], "link": ["link"]}


def test_full_text_search_answers_before_anything_was_analysed_and_about_no_documents(database: Database) -> None:
    assert full_text_search(database, ["link"], 3, 10_000) == {"link": []}
    with database.connection() as connection:
        connection.execute("INSERT INTO relevanced.document VALUES ('link', 'ln', 'Make a symbolic link.')")
    assert full_text_search(database, ["link"], 3, 10_000) == {"link": ["link"]}


def test_full_text_search_that_takes_too_long_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sql.postgres._by_name, "full_text_search", "SELECT pg_sleep(60), %(texts)s::text[], %(k)s")
    with pytest.raises(Retry, match="could not finish"):
        full_text_search(database, ["link"], 3, 10)


def test_a_document_with_more_words_than_full_text_search_can_hold_is_loaded_all_the_same(database: Database) -> None:
    text = " ".join(f"wörter{number}" for number in range(300_000))
    assert load_documents(database, [Document("long", "Long", text)], silent).numbers["added"] == 1
    assert full_text_search(database, ["wörter7", "wörter299999"], 3, 10_000) == {
        "wörter7": ["long"],
        "wörter299999": [],
    }
