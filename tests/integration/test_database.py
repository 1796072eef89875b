"""Connections to Postgres, and what its failures mean."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, Retry, StopDaemon


def sentence_of_opening(url: str) -> str:
    with pytest.raises((BadInput, Retry)) as caught:
        Database.open(url, Path("unused"))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def execute(database: Database, *statements: str) -> None:
    with database.connection() as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_block_that_ends_is_committed_and_one_that_raises_is_not(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("CREATE TABLE kept (number integer)")
    with pytest.raises(psycopg.errors.DivisionByZero):
        execute(database, "INSERT INTO kept VALUES (1)", "SELECT 1 / 0")
    with database.connection() as connection:
        assert connection.execute("SELECT count(*) AS count FROM kept").fetchall() == [{"count": 0}]


def test_a_server_that_cannot_be_reached_is_named_without_the_password() -> None:
    url = "postgresql://ada:secret@127.0.0.1:1/relevanced"
    assert sentence_of_opening(url).startswith("Postgres at 127.0.0.1:1 cannot be used: ")
    with pytest.raises(Retry):
        Database.open(url, Path("unused"))


def test_a_wrong_password_is_said(new_database_url: Callable[[], str]) -> None:
    url = new_database_url()
    with psycopg.connect(url, autocommit=True) as connection:
        (path,) = connection.execute("SELECT current_setting('hba_file')").fetchone() or ("",)
        connection.execute("CREATE ROLE ada LOGIN PASSWORD 'right'")
        Path(path).write_text("local all ada scram-sha-256\n" + Path(path).read_text())
        connection.execute("SELECT pg_reload_conf()")
    sentence = sentence_of_opening(make_conninfo(url, user="ada", password="secret"))
    assert 'password authentication failed for user "ada"' in sentence


def test_an_url_that_cannot_be_read_is_said() -> None:
    assert sentence_of_opening("ada:secret@somewhere").startswith("RELEVANCED_DATABASE_URL cannot be read; write")


def test_a_user_who_may_not_create_the_schema_is_told(new_database_url: Callable[[], str]) -> None:
    url = new_database_url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE ROLE guest LOGIN")
    assert "may not set up the schema relevanced" in sentence_of_opening(make_conninfo(url, user="guest"))


def test_a_server_without_pgvector_is_named(new_database_url: Callable[[], str]) -> None:
    url = new_database_url()
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET extension_control_path = '/nowhere'")
    assert "has no pgvector; install 0.8.4 or newer" in sentence_of_opening(url)


def test_a_pgvector_that_damages_indexes_is_refused(new_database_url: Callable[[], str]) -> None:
    url = new_database_url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    assert "has pgvector 0.8.3, and 0.8.4 is the oldest without bugs that damage indexes" in sentence_of_opening(url)


def test_connections_that_the_server_closed_are_replaced(database: Database) -> None:
    with database.connection() as connection:
        pid = connection.info.backend_pid
    with psycopg.connect(database.url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    with database.connection() as connection:
        assert connection.info.backend_pid != pid


def test_a_server_that_goes_away_in_the_middle_is_worth_a_retry(database: Database) -> None:
    with pytest.raises(Retry, match=r"Postgres at /.* could not finish: terminating connection"):
        execute(database, "SELECT pg_terminate_backend(pg_backend_pid())")


def test_a_full_disk_stops_the_daemon(database: Database) -> None:
    full = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
    with pytest.raises(StopDaemon, match=r"no room left .*No space left on device.*make room"):
        execute(database, f"DO $$ BEGIN {full}; END $$")
