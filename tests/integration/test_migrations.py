"""The schema: the migrations arrive at what schema.sql declares, once, whoever starts first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput

CATALOGUE = """
SELECT 'column' AS kind, table_name || '.' || column_name AS name,
       concat_ws(' ', ordinal_position, udt_name, is_nullable, column_default, is_identity, generation_expression) AS is
  FROM information_schema.columns WHERE table_schema = 'relevanced'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'relevanced'::regnamespace
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'relevanced'
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger
 WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'relevanced.%'
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'relevanced'::regnamespace
UNION ALL
SELECT 'enum', typname, string_agg(enumlabel, ',' ORDER BY enumsortorder)
  FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid
 WHERE typnamespace = 'relevanced'::regnamespace GROUP BY typname
ORDER BY 1, 2
"""


def catalogue_of(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(CATALOGUE).fetchall()


def test_the_migrations_arrive_at_the_schema(new_database_url: Callable[[], str], tmp_path: Path) -> None:
    migrated, declared = new_database_url(), new_database_url()
    Database.open(migrated, tmp_path).close()
    with psycopg.connect(declared) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(sql.script("postgres", "schema.sql"))
    assert catalogue_of(declared) == catalogue_of(migrated)
    assert len(catalogue_of(declared)) > 50


def test_two_processes_that_start_at_once_migrate_once(new_database_url: Callable[[], str], tmp_path: Path) -> None:
    url = new_database_url()
    with ThreadPoolExecutor(4) as threads:
        for database in threads.map(lambda _: Database.open(url, tmp_path), range(4)):
            database.close()
    with psycopg.connect(url) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM relevanced.migration ORDER BY name")]
    assert names == list(sql.migrations())


def test_a_migration_that_fails_leaves_nothing_behind(
    new_database_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database_url()
    known = sql.migrations()
    monkeypatch.setattr(sql, "migrations", lambda: known | {"9999_broken.sql": "SELECT 1 / 0"})
    with pytest.raises(psycopg.errors.DivisionByZero):
        Database.open(url, tmp_path)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('relevanced')").fetchone() == (None,)


def test_a_database_of_a_newer_release_is_left_alone(new_database_url: Callable[[], str], tmp_path: Path) -> None:
    url = new_database_url()
    Database.open(url, tmp_path).close()
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO relevanced.migration (name) VALUES ('9999_future.sql')")
    with pytest.raises(BadInput, match="newer relevanced, with 9999_future"):
        Database.open(url, tmp_path)
