"""
A log store that passes: for records that are looked at and not kept.

In:  rows, as the log store takes them. Out: the same tables, for the same statements, until the block ends.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from duckdb_extensions import import_extension

from relevanced.daemon import privacy
from relevanced.daemon.log_store import MEMORY_LIMIT, THREADS, LogStore


@contextmanager
def passing_log(policy: privacy.PrivacyPolicy) -> Iterator[LogStore]:
    """An empty log store with its catalog in memory and its files in a temporary directory; no Postgres is asked."""
    with TemporaryDirectory(prefix="relevanced-") as folder:
        log = _PassingLog(duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT}), "", policy)
        try:
            log.begin(Path(folder))
            yield log
        finally:
            log.close()


class _PassingLog(LogStore):
    def begin(self, folder: Path) -> None:
        import_extension("ducklake", con=self._connection)
        self._connection.execute("LOAD ducklake")
        quoted = str(folder).replace("'", "''")
        self._connection.execute(f"ATTACH 'ducklake::memory:' AS lake (DATA_PATH '{quoted}')")
        self._connection.execute("SET python_enable_replacements = false")  # a Python variable is no table
        self._create_tables()
        self._protect()

    def _protect(self) -> None:
        """Nobody asks for these ids again, so their key passes too."""
        with self._cursor() as cursor:
            for statement in privacy.protection(
                0, secrets.token_bytes(privacy.KEY_BYTES), patterns=self._privacy.patterns
            ):
                cursor.execute(statement)
        self._protected_at = float("inf")

    @contextmanager
    def _turn_among_processes(self) -> Iterator[None]:
        """There are no others."""
        yield
