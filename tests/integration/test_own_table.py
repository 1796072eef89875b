"""Documents that come from the operator's own table or view."""

import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from relevanced.daemon import attaching
from relevanced.daemon.attaching import (
    attach,
    count_lost,
    detach,
    refresh,
    refresh_if_due,
    source_sentences,
    source_status,
)
from relevanced.daemon.config import load_settings
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.own_table import DocumentsPolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document, Outcome
from relevanced.daemon.scheduler import Scheduler
from relevanced.daemon.threads import Threads
from relevanced.daemon.wiring import Parts
from tests.commands import giver
from tests.tiny import make_tiny_model

ARTICLE = DocumentsPolicy(table="shop.article", id="article_id", title="title", text="body")
SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.article (article_id bigint PRIMARY KEY, title text, body text, views integer NOT NULL DEFAULT 0);
INSERT INTO shop.article VALUES (1, 'Fever', 'A raised temperature.'), (2, NULL, 'A cough.'), (3, 'Empty', NULL);
"""


@pytest.fixture
def shop(database: Database) -> Database:
    execute(database, SHOP)
    return database


def execute(database: Database, statement: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(statement)


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.url) as connection:
        return connection.execute(statement).fetchall()


def documents(database: Database) -> dict[str, tuple[str, str]]:
    return {name: (title, text) for name, title, text in rows(database, "TABLE documents_of_tests")}


@pytest.fixture(autouse=True)
def view_of_documents(database: Database) -> None:
    execute(database, "CREATE VIEW documents_of_tests AS SELECT document_id, title, text FROM relevanced.document")


def changes(database: Database) -> list[str]:
    return [name for (name,) in rows(database, "SELECT document_id FROM relevanced.outbox ORDER BY position")]


def attached(database: Database, policy: DocumentsPolicy = ARTICLE, *, replace: bool = False) -> Outcome:
    return attach(database, policy, replace=replace, progress=silent)


def sentences(database: Database) -> str:
    return " ".join(source_sentences(source_status(database)))


def test_what_is_there_is_copied_and_a_row_without_text_is_no_document(shop: Database) -> None:
    outcome = attached(shop)
    assert outcome.sentence.startswith("Attached shop.article: 2 documents, 2 new, 0 changed, 0 deleted. From here on")
    assert documents(shop) == {"1": ("Fever", "A raised temperature."), "2": ("", "A cough.")}
    assert sentences(shop) == "Documents come from shop.article."
    assert attached(shop).numbers["added"] == 0  # said again


@pytest.mark.parametrize(
    ("statement", "changed", "left"),
    [
        ("INSERT INTO shop.article VALUES (4, 'Rash', 'Red skin.')", ["4"], {"1", "2", "4"}),
        ("UPDATE shop.article SET body = 'Dry.' WHERE article_id = 2", ["2"], {"1", "2"}),
        ("UPDATE shop.article SET body = NULL WHERE article_id = 2", ["2"], {"1"}),
        ("UPDATE shop.article SET body = 'Now.' WHERE article_id = 3", ["3"], {"1", "2", "3"}),
        ("UPDATE shop.article SET article_id = 7 WHERE article_id = 1", ["1", "7"], {"2", "7"}),
        ("UPDATE shop.article SET views = views + 1", [], {"1", "2"}),
        ("DELETE FROM shop.article WHERE article_id = 1", ["1"], {"2"}),
        ("TRUNCATE shop.article", ["1", "2"], set()),
        (
            "INSERT INTO shop.article VALUES (1, '', 'Hot.'), (4, '', 'Red.') ON CONFLICT (article_id)"
            " DO UPDATE SET title = EXCLUDED.title, body = EXCLUDED.body",
            ["1", "4"],
            {"1", "2", "4"},
        ),
        ("ALTER TABLE shop.article RENAME TO item; DELETE FROM shop.item WHERE article_id = 1", ["1"], {"2"}),
    ],
)
def test_each_change_is_taken_over_in_its_own_transaction(
    shop: Database, statement: str, changed: list[str], left: set[str]
) -> None:
    attached(shop)
    before = len(changes(shop))
    with psycopg.connect(shop.url) as writer:
        writer.execute(statement)
        assert len(changes(shop)) == before
    assert (sorted(changes(shop)[before:]), set(documents(shop))) == (changed, left)
    assert count_lost(shop) == (0, "")


def test_an_update_of_other_columns_does_not_even_lock_the_documents(shop: Database) -> None:
    attached(shop)
    execute(shop, "UPDATE shop.article SET views = views + 1")
    assert rows(shop, "SELECT DISTINCT xmax::text FROM relevanced.document") == [("0",)]


def test_ids_may_be_exchanged_within_a_statement(shop: Database) -> None:
    execute(shop, "CREATE TABLE shop.page (name text UNIQUE DEFERRABLE, body text)")
    execute(shop, "INSERT INTO shop.page VALUES ('a', 'first'), ('b', 'second')")
    attached(shop, DocumentsPolicy(table="shop.page", id="name", text="body"))
    execute(shop, "UPDATE shop.page SET name = CASE name WHEN 'a' THEN 'b' ELSE 'a' END")
    assert documents(shop) == {"b": ("", "first"), "a": ("", "second")}


def test_uuids_odd_names_and_expressions_are_taken_as_they_are(shop: Database) -> None:
    execute(
        shop,
        """CREATE TABLE shop."Odd ""%s"" {x}" ("Id %" uuid PRIMARY KEY, "Body" text, tags text[] NOT NULL);
        INSERT INTO shop."Odd ""%s"" {x}" VALUES ('00000000-0000-0000-0000-00000000000a', '$$ 100 % ''x''', '{a,b}')""",
    )
    policy = DocumentsPolicy(
        table='shop.Odd "%s" {x}',
        id="Id %",
        title="Body",
        text="""concat_ws(' ', "Odd ""%s"" {x}"."Body", array_to_string(tags, ', '), '{%s} $x$', 7 % 4)""",
    )
    attached(shop, policy)
    found = {"00000000-0000-0000-0000-00000000000a": ("$$ 100 % 'x'", "$$ 100 % 'x' a, b {%s} $x$ 3")}
    assert documents(shop) == found
    execute(shop, """UPDATE shop."Odd ""%s"" {x}" SET tags = '{}'""")
    (text,) = documents(shop).values()
    assert text[1].endswith("'x'  {%s} $x$ 3")
    assert sentences(shop) == 'Documents come from shop.Odd "%s" {x}.'


def test_a_writer_needs_no_right_to_our_schema(shop: Database) -> None:
    attached(shop)
    execute(shop, "DO $$ BEGIN CREATE ROLE writer_of_tests LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    execute(shop, "GRANT USAGE ON SCHEMA shop TO writer_of_tests; GRANT ALL ON shop.article TO writer_of_tests")
    execute(shop, "SET ROLE writer_of_tests; INSERT INTO shop.article VALUES (9, '', 'By another role.')")
    assert documents(shop)["9"] == ("", "By another role.")
    assert source_status(shop)["failures"] == 0


def test_a_renamed_column_fails_no_writer_and_is_named_until_it_is_set_right(shop: Database) -> None:
    attached(shop)
    execute(shop, "ALTER TABLE shop.article RENAME body TO content")
    execute(shop, "INSERT INTO shop.article VALUES (4, 'Rash', 'Red skin.')")
    execute(shop, "DELETE FROM shop.article WHERE article_id = 1")
    assert len(rows(shop, "TABLE shop.article")) == 3
    assert set(documents(shop)) == {"1", "2"}
    assert "2 changes of shop.article could not be taken over" in sentences(shop)
    assert 'column "body" does not exist' in sentences(shop)
    for act in (lambda: refresh(shop, silent), lambda: refresh_if_due(shop), lambda: count_lost(shop)):
        with pytest.raises(BadInput, match=r'column "body" does not exist.*documents attach'):
            act()
    outcome = attached(shop, DocumentsPolicy(table="shop.article", id="article_id", title="title", text="content"))
    assert (outcome.numbers["added"], outcome.numbers["deleted"]) == (1, 1)
    assert set(documents(shop)) == {"2", "4"}
    assert sentences(shop) == "Documents come from shop.article."


def test_an_expression_that_fails_for_one_row_is_made_good_once_the_row_is(shop: Database) -> None:
    attached(shop, DocumentsPolicy(table="shop.article", id="article_id", text="body || (1 / (views - 1))"))
    execute(shop, "INSERT INTO shop.article VALUES (4, '', 'x', 1)")
    assert "INSERT: division by zero" in sentences(shop)
    execute(
        shop,
        "ALTER TABLE shop.article DISABLE TRIGGER USER; UPDATE shop.article SET views = 2",
    )
    assert "4 of 4 triggers on shop.article are missing or disabled" in sentences(shop)
    made_good = refresh_if_due(shop)
    assert made_good is not None
    assert made_good.sentence == "Refreshed from shop.article: 3 documents, 1 new, 2 changed, 0 deleted."
    attached(shop, DocumentsPolicy(table="shop.article", id="article_id", text="body || (1 / (views - 1))"))
    assert sentences(shop) == "Documents come from shop.article."


def test_changes_that_no_trigger_sees_are_found_by_comparing(shop: Database) -> None:
    attached(shop)
    execute(
        shop,
        "SET session_replication_role = replica; INSERT INTO shop.article VALUES (4, '', 'Replicated.');"
        " UPDATE shop.article SET body = 'Wet.' WHERE article_id = 2; DELETE FROM shop.article WHERE article_id = 1",
    )
    assert count_lost(shop)[0] == 3
    assert refresh_if_due(shop) is None  # nothing was noted
    nightly = refresh_if_due(shop, anyway=True)
    assert nightly is not None
    assert (nightly.numbers["added"], nightly.numbers["changed"], nightly.numbers["deleted"]) == (1, 1, 1)
    assert documents(shop) == {"2": ("", "Wet."), "4": ("", "Replicated.")}
    assert refresh_if_due(shop, anyway=True) is None


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_followed_by_refreshing(shop: Database, kind: str) -> None:
    execute(shop, f"CREATE {kind} shop.recent AS SELECT article_id, body FROM shop.article WHERE article_id < 9")
    outcome = attached(shop, DocumentsPolicy(table="shop.recent", id="article_id", text="body"))
    assert "it cannot carry triggers that see every change" in outcome.sentence
    execute(
        shop,
        "UPDATE shop.article SET body = 'Dry.' WHERE article_id = 2; DELETE FROM shop.article WHERE article_id = 1",
    )
    if kind == "MATERIALIZED VIEW":
        execute(shop, "REFRESH MATERIALIZED VIEW shop.recent")
    assert set(documents(shop)) == {"1", "2"}
    refreshed = refresh_if_due(shop)
    assert refreshed is not None
    assert refreshed.sentence == "Refreshed from shop.recent: 1 documents, 0 new, 1 changed, 1 deleted."
    assert refresh_if_due(shop) is None
    assert detach(shop, delete_documents=False).sentence.startswith(
        "Detached shop.recent: it had no triggers; its 1 doc"
    )


def test_documents_that_were_loaded_go_only_where_that_is_asked_for(shop: Database) -> None:
    load_documents(shop, [Document("loaded", "", "From a file."), Document("1", "", "Old.")], silent)
    with pytest.raises(BadInput, match=r"^1 documents are not in shop\.article; add --replace"):
        attached(shop)
    assert attached(shop, replace=True).numbers["deleted"] == 1
    assert documents(shop)["1"] == ("Fever", "A raised temperature.")
    with pytest.raises(BadInput, match=r"^The documents come from shop\.article; .*documents detach"):
        load_documents(shop, [Document("loaded", "", "From a file.")], silent)


def test_detached_the_table_is_as_it_was(shop: Database) -> None:
    triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'shop.article'::regclass"
    attached(shop)
    assert len(rows(shop, triggers)) == 4
    outcome = detach(shop, delete_documents=False)
    assert outcome.sentence == (
        "Detached shop.article: removed 4 triggers and their function; its 2 documents stay as they are."
    )
    assert (rows(shop, triggers), source_status(shop)) == ([], None)
    execute(shop, "DELETE FROM shop.article")
    assert set(documents(shop)) == {"1", "2"}
    for act in (lambda: detach(shop, delete_documents=False), lambda: refresh(shop, silent)):
        with pytest.raises(BadInput, match=r"^No table is attached"):
            act()
    attached(shop, replace=True)
    execute(shop, "INSERT INTO shop.article VALUES (5, '', 'x')")
    assert detach(shop, delete_documents=True).sentence.endswith("its 1 documents were deleted.")
    assert documents(shop) == {}


def test_a_table_that_was_dropped_can_be_detached(shop: Database) -> None:
    attached(shop)
    execute(shop, "DROP TABLE shop.article")
    assert sentences(shop).startswith("shop.article, which the documents come from, is no more")
    with pytest.raises(BadInput, match="is no more"):
        refresh(shop, silent)
    assert detach(shop, delete_documents=False).numbers == {"triggers": 0, "documents": 2}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"table": ""}, r"\[documents\] table is not set"),
        ({"table": "article"}, r"write article with its schema, such as public\.article\."),
        ({"table": "shop.artikle"}, r"there is no table or view shop\.artikle; did you mean shop\.article\?"),
        ({"table": "relevanced.document"}, r"there is no table or view relevanced\.document"),
        ({"id": "articleid"}, r"shop\.article has no column articleid; did you mean article_id\?"),
        ({"id": "views"}, r"has neither a primary key nor a unique index on views alone"),
        ({"text": "boddy"}, r'column "boddy" does not exist'),
        ({"text": "lower(body"}, r"syntax error"),
        ({"text": "max(body)"}, r"column .* must appear in the GROUP BY clause|aggregate"),
        ({"title": "shop.none(title)"}, r"function shop\.none\(text\) does not exist"),
        ({"table": "shop.doubled"}, r"shop\.doubled has 2 rows with the article_id 1; each document needs an id"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence_and_nothing_is_attached(
    shop: Database, changed: dict[str, str], said: str
) -> None:
    execute(shop, "CREATE VIEW shop.doubled AS TABLE shop.article UNION ALL TABLE shop.article")
    policy = {"table": "shop.article", "id": "article_id", "title": "title", "text": "body", **changed}
    with pytest.raises(BadInput, match=said) as raised:
        attached(shop, DocumentsPolicy(**policy))
    assert "\n" not in str(raised.value)
    assert source_status(shop) is None


def test_without_the_rights_to_the_table_it_is_said_which(shop: Database, tmp_path: Path) -> None:
    execute(shop, "DO $$ BEGIN CREATE ROLE ours_of_tests LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    execute(
        shop,
        "GRANT CREATE ON DATABASE :db TO ours_of_tests; GRANT ALL ON SCHEMA relevanced TO ours_of_tests;"
        " GRANT ALL ON ALL TABLES IN SCHEMA relevanced TO ours_of_tests".replace(
            ":db", conninfo_to_dict(shop.url)["dbname"]
        ),
    )
    ours = Database.open(make_conninfo(shop.url, options="-c role=ours_of_tests"), tmp_path)
    try:
        with pytest.raises(
            BadInput, match=r"permission denied.*grant SELECT and TRIGGER on it, and USAGE on the schema"
        ):
            attached(ours)
        execute(shop, "GRANT USAGE ON SCHEMA shop TO ours_of_tests; GRANT SELECT ON shop.article TO ours_of_tests")
        with pytest.raises(
            BadInput, match=r"permission denied for table article; let its owner grant SELECT and TRIGGER"
        ):
            attached(ours)
        execute(shop, "GRANT TRIGGER ON shop.article TO ours_of_tests")
        assert attached(ours).numbers["added"] == 2
        execute(shop, "INSERT INTO shop.article VALUES (4, '', 'x')")
        assert "4" in documents(shop)
    finally:
        ours.close()


def test_a_copy_waits_for_a_writer_and_a_deletion_in_between_stays(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh that knows of a row from before must not bring it back."""
    attached(shop)
    execute(shop, "SET session_replication_role = replica; INSERT INTO shop.article VALUES (4, '', 'Replicated.')")
    monkeypatch.setattr(attaching, "_LOCK_MS", 20)
    monkeypatch.setattr(attaching, "_ATTEMPTS", 2)
    with psycopg.connect(shop.url) as writer:
        writer.execute("DELETE FROM shop.article WHERE article_id = 4")
        with pytest.raises(Retry, match=r"^A transaction that has written to shop\.article stays open"):
            refresh(shop, silent)
        write = attaching._write

        def after_the_writer(*arguments: Any) -> Any:
            writer.commit()
            return write(*arguments)

        monkeypatch.setattr(attaching, "_write", after_the_writer)
        assert refresh(shop, silent).numbers["added"] == 0
    assert set(documents(shop)) == {"1", "2"}


def test_attaching_waits_for_a_table_in_use_only_so_long(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "_LOCK_MS", 20)
    monkeypatch.setattr(attaching, "_ATTEMPTS", 2)
    with psycopg.connect(shop.url) as writer:
        writer.execute("UPDATE shop.article SET views = 1")
        with pytest.raises(Retry, match="stays open"):
            attached(shop)
    assert source_status(shop) is None


def test_a_copy_of_many_rows_arrives_whole(shop: Database) -> None:
    attached(shop)
    statement = "COPY shop.article (article_id, title, body) FROM STDIN"
    with psycopg.connect(shop.url) as writer, writer.cursor().copy(statement) as copy:
        for number in range(10, 2510):
            copy.write_row((number, f"Title {number}", f"Text of {number}."))
    assert len(documents(shop)) == 2502
    execute(shop, "SET session_replication_role = replica; UPDATE shop.article SET title = 'x' WHERE body IS NOT NULL")
    told: list[tuple[int, int]] = []
    assert refresh(shop, lambda label, done, total: told.append((done, total))).numbers["changed"] == 2502
    assert told == [(1000, 2502), (2000, 2502), (2502, 2502)]
    assert count_lost(shop) == (0, "")


def test_the_commands_make_the_first_version_and_say_what_was_lost(
    shop: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    settings = f'[model]\nbase = "{model}"\n[documents]\ntable = "shop.article"\nid = "article_id"\ntext = "body"\n'
    (tmp_path / "relevanced.toml").write_text(settings)
    monkeypatch.setenv("RELEVANCED_DATABASE_URL", shop.url)
    give = giver(tmp_path, capsys)
    status, said, _ = give("documents", "attach")
    assert status == 0
    assert said.startswith("Attached shop.article: 2 documents, 2 new")
    assert "Promoted version 1, the first to be live." in said
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "x"}\n')
    status, _, complaint = give("documents", "load", str(tmp_path / "corpus.jsonl"))
    assert (status, complaint.count("\n"), "The documents come from shop.article" in complaint) == (2, 1, True)
    execute(shop, "SET session_replication_role = replica; INSERT INTO shop.article VALUES (4, '', 'Replicated.')")
    status, said, _ = give("verify", "1")
    assert (status, "1 documents are not as shop.article has them; `relevanced documents refresh`" in said) == (0, True)
    answer = json.loads(give("documents", "refresh", "--json")[1])
    assert (answer["added"], answer["changed_documents"]) == (1, 1)
    assert 'lost_changes": 0' in give("verify", "1", "--json")[1]
    assert json.loads(give("search", "replicated", "-k", "3", "--json")[1])["hits"][0]["document_id"] == "4"
    assert "Documents come from shop.article." in give("status")[1]
    execute(shop, "SET session_replication_role = replica; DELETE FROM shop.article WHERE article_id = 4")
    parts = Parts(tmp_path, load_settings(tmp_path / "relevanced.toml"))
    threads = Threads(threading.Event())
    scheduler = Scheduler(parts.stages, parts.settings.schedule, parts.clock, lambda cycle: cycle, threads)
    scheduler.refresh()
    assert "4" in documents(shop)  # nothing was noted, and a table is read whole at night alone
    scheduler.refresh(nightly=True)
    assert ("4" in documents(shop), threads.stop.is_set()) == (False, False)
    execute(shop, "DROP TABLE shop.article")
    scheduler.refresh(nightly=True)
    assert not threads.stop.is_set()
    parts.close()
    assert give("documents", "detach", "--delete-documents")[1].endswith("its 2 documents were deleted.\n")
