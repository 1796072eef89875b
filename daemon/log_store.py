"""
The log store: every event that came in, in DuckLake.

In:  rows and offsets from the consumers' loop. Out: tables as of a snapshot, read by the cycle's mine step.

DuckDB is the engine, Parquet under the state directory the data, and the catalog lies in Postgres. Any number of
processes may write; two whose transactions overlap give way to one another by Retry.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import psycopg
import pyarrow as pa
from duckdb_extensions import import_extension
from psycopg.conninfo import conninfo_to_dict

from relevanced import sql
from relevanced.daemon import privacy
from relevanced.daemon.errors import BadInput, Retry, StopDaemon

THREADS: Final = 2  # a batch or a mining query fills no more, and serving comes first on a small machine
MEMORY_LIMIT: Final = "1GB"  # beyond it DuckDB spills to disk
KEY_SECONDS: Final = 3600.0  # between two looks at whether ids have a new key

_MOVED: Final = pa.schema({"source": pa.string(), "partition": pa.string(), "next_offset": pa.int64()})


class Rows:
    """The open transaction of one batch; see ports.LogRows."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows to one of the tables of sql/duckdb/schema.sql."""
        self._execute({"rows": rows}, f"append_{table}")

    def advance(self, source: str, next_offsets: Mapping[str, int]) -> None:
        """Say where these partitions of the source go on; the other partitions stay where they are."""
        moved = [
            {"source": source, "partition": partition, "next_offset": offset}
            for partition, offset in next_offsets.items()
        ]
        self._execute({"moved": pa.Table.from_pylist(moved, schema=_MOVED)}, "remove_offsets", "insert_offsets")

    def remove_dead_letters(self, dead_letter_ids: Sequence[str]) -> None:
        """
        Take these dead letters out.

        Raises: Retry when one of them is gone already.
        """
        wanted = pa.table({"dead_letter_id": pa.array(dead_letter_ids, pa.string())})
        self._execute({"removed": wanted}, "remove_dead_letters")
        ((removed,),) = self._cursor.fetchall()
        if removed < len(dead_letter_ids):
            raise Retry("Another process has replayed or dropped some of these dead letters.")

    def _execute(self, tables: Mapping[str, pa.Table], *names: str) -> None:
        with _treatments():
            for name, table in tables.items():
                self._cursor.register(name, table)
            for name in names:
                self._cursor.execute(sql.duckdb[name])
            for name in tables:
                self._cursor.unregister(name)


class LogStore:
    """The log as the consumers write it and the cycle reads it; safe to share between threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, database_url: str, policy: privacy.PrivacyPolicy) -> None:
        self._connection, self._database_url, self._privacy = connection, database_url, policy
        self._protected_at = 0.0
        self._turn = threading.Lock()  # threads of one process wait for one another rather than conflict

    @classmethod
    def open(cls, database_url: str, data_path: Path, policy: privacy.PrivacyPolicy = privacy.DEFAULTS) -> "LogStore":
        """
        Open the log store whose catalog is in this Postgres, and create what is missing.

        Args:
            database_url: anything that libpq takes; database.Database has brought its schema up to date.
            data_path: folder of the Parquet files; the catalog remembers it.
            policy: what becomes of ids and texts on their way in.
        Raises: Retry when Postgres does not answer, BadInput when the catalog belongs to another folder.
        """
        data_path.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT})
        store = cls(connection, database_url, policy)
        host = conninfo_to_dict(database_url).get("host", "localhost")
        try:
            with psycopg.connect(database_url) as postgres:
                postgres.execute(sql.postgres["lock_log_store"])  # DuckLake does not stand being created twice at once
                store._attach(database_url, data_path)
                store._create_tables()
                store._protect()
        except psycopg.OperationalError:
            raise Retry(f"Postgres at {host} does not answer; check that it runs and lets this user in.") from None
        return store

    def _attach(self, database_url: str, data_path: Path) -> None:
        """Attach the DuckLake as `lake`. ATTACH takes no parameters, so the texts are quoted here."""
        for extension in ("ducklake", "postgres_scanner"):
            import_extension(extension, con=self._connection)
            self._connection.execute(f"LOAD {extension}")
        catalog = f"ducklake:postgres:{database_url}".replace("'", "''")
        folder = str(data_path.resolve()).replace("'", "''")
        try:
            self._connection.execute(
                f"ATTACH '{catalog}' AS lake (DATA_PATH '{folder}', METADATA_SCHEMA 'relevanced_log')"
            )
        except duckdb.Error as error:
            if "does not match existing data path" not in str(error):
                raise StopDaemon("DuckDB cannot open the log store's catalog in Postgres; see --debug.") from error
            raise BadInput(
                f"{str(error).splitlines()[0]} Use the RELEVANCED_HOME that this database began with, or another one."
            ) from None
        self._connection.execute("SET python_enable_replacements = false")  # a Python variable is no table

    def _create_tables(self) -> None:
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("USE lake")
            cursor.execute(sql.script("duckdb", "schema.sql"))
            if cursor.execute(sql.duckdb["count_turns"]).fetchall() == [(0,)]:
                cursor.execute(sql.duckdb["add_turn"])
            cursor.execute("COMMIT")

    def _protect(self) -> None:
        """Make the functions that ids and texts pass on their way in, with the key that is in use now."""
        with psycopg.connect(self._database_url) as postgres:
            keys = privacy.keys(postgres, self._privacy.key_days)
        number = max(keys)
        with self._cursor() as cursor:
            for statement in privacy.protection(number, keys[number], patterns=self._privacy.patterns):
                cursor.execute(statement)
        self._protected_at = time.monotonic()

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        """
        Write rows and offsets that become visible together; an exception leaves nothing behind.

        Raises: Retry when another process wrote meanwhile, or when the store cannot be reached now.
        """
        with self._turn, self._turn_among_processes(), self._cursor() as cursor:
            if time.monotonic() - self._protected_at > KEY_SECONDS:
                self._protect()
            cursor.execute("BEGIN")
            cursor.execute(sql.duckdb["snapshot"])  # DuckLake begins with the first look; from here on commits conflict
            yield Rows(cursor)
            cursor.execute("COMMIT")

    @contextmanager
    def _turn_among_processes(self) -> Iterator[None]:
        """
        Let the writers of other processes finish first, for of two that overlap one does its work in vain.

        The lock goes with its connection, so that one who is killed holds nobody up. It is a courtesy: whoever waits in
        vain goes on without it, and a conflict is still found.
        Raises: Retry when Postgres is away.
        """
        with _treatments(), psycopg.connect(self._database_url, autocommit=True) as postgres:
            with suppress(psycopg.errors.LockNotAvailable):
                postgres.execute(sql.postgres["take_turn"])
            yield

    @contextmanager
    def maintenance_alone(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """As maintenance, for what busy consumers would make vain again and again: they wait for it, some seconds."""
        with self._turn, self._turn_among_processes(), self._cursor() as cursor:
            yield cursor

    @contextmanager
    def maintenance(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """
        A cursor for what upkeep and forgetting do to the tables of `lake` as a whole; consumers may write meanwhile.

        Raises: Retry and StopDaemon, as the other methods do.
        """
        with self._cursor() as cursor:
            yield cursor

    def only_write(self) -> None:
        """Take one thread for itself: a process that only stores batches keeps the others for reading them."""
        with self._cursor() as cursor:
            cursor.execute("SET threads = 1")

    def offsets(self, source: str) -> dict[str, int]:
        """Where each partition of the source goes on, as of now."""
        with self._cursor() as cursor:
            return dict(cursor.execute(sql.duckdb["offsets"], {"source": source}).fetchall())

    def snapshot(self) -> int:
        """Name the log as of now; reading it again as of this number finds the same rows for ever."""
        with self._cursor() as cursor:
            ((snapshot_id,),) = cursor.execute(sql.duckdb["snapshot"]).fetchall()
            return int(snapshot_id)

    def read(
        self,
        statement_name: str,
        snapshot_id: int,
        tables: Mapping[str, pa.Table] | None = None,
        views: Literal["view_snapshot", "view_touched"] = "view_snapshot",
        **parameters: Any,
    ) -> pa.Table:
        """
        Run a statement of sql/duckdb over the log as of a snapshot.

        Args:
            tables: given to the statement under their names, beside the log's own.
            views: what makes the log's own; some searches alone need the table `touched`.
            parameters: for the statement's $names.
        """
        with self._cursor() as cursor:
            cursor.execute("SET VARIABLE snapshot_id = $snapshot_id", {"snapshot_id": snapshot_id})
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            cursor.execute(sql.duckdb[views])
            return run(cursor, statement_name, parameters).to_arrow_table()

    def close(self) -> None:
        """Let go of Postgres; what was committed stays."""
        self._connection.close()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own to the same DuckDB; closing it rolls back what it did not commit."""
        with _treatments():
            cursor = self._connection.cursor()
            try:
                yield cursor
            finally:
                cursor.close()


def run(
    cursor: duckdb.DuckDBPyConnection, statement_name: str, parameters: Mapping[str, Any]
) -> duckdb.DuckDBPyConnection:
    """Execute a statement of sql/duckdb, or several, of which each gets the parameters that it names."""
    for statement in cursor.extract_statements(sql.duckdb[statement_name]):
        cursor.execute(statement, {name: parameters[name] for name in statement.named_parameters})
    return cursor


@contextmanager
def _treatments() -> Iterator[None]:
    """Say what is done about an error of DuckDB. Its words hold the password of Postgres, so few are passed on."""
    try:
        yield
    except duckdb.TransactionException as error:
        raise Retry("Another process wrote to the log store at the same moment.") from error
    except duckdb.IOException as error:
        raise Retry("The log store does not answer: Postgres is away, or the disk is full.") from error
    except psycopg.OperationalError as error:
        raise Retry("The log store does not answer: Postgres is away.") from error
    except duckdb.Error as error:
        raise StopDaemon(f"The log store refuses a statement ({type(error).__name__}); see --debug.") from error
    except RuntimeError as error:  # Ctrl-C in the middle of a statement comes wrapped
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
