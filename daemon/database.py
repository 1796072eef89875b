"""
Postgres: connections, migrations, and what its failures mean.

In:  a connection string, or the state directory for the embedded server.
Out: connections that commit at the end; index, promotion, history, documents, lease and cycle use them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from relevanced import sql
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.errors import BadInput, RelevancedError, Retry, StopDaemon

# Older ones corrupt indexes; see pgvector's changelog for 0.8.4.
OLDEST_PGVECTOR: Final = (0, 8, 4)

# What a lost server means is said by connection(); the pool would print a line for each attempt to reach it.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

# A connection that takes longer than this in seconds to come is one that the caller should retry.
_PATIENCE: Final = 10


class Database:
    """A migrated database and a pool of connections to it."""

    def __init__(self, url: str, pool: ConnectionPool[psycopg.Connection[DictRow]]) -> None:
        self.url = url
        self._pool = pool

    @classmethod
    def open(cls, url: str | None, home: Path) -> Self:
        """
        Connect to `url`, or to the embedded server under `home`, and bring the schema up to date.

        Raises: Retry when the server cannot be reached, BadInput when it does not fit.
        """
        url = url or start_embedded(home)
        address = _address(url)
        try:
            with psycopg.connect(url, row_factory=dict_row, connect_timeout=_PATIENCE) as connection:
                _migrate(connection, address)
        except psycopg.OperationalError as error:
            raise Retry(f"Postgres at {address} cannot be used: {_first_line(error)}.") from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise BadInput(
                f"The user of Postgres at {address} may not set up the schema relevanced: {_first_line(error)}."
            ) from error
        pool = ConnectionPool(
            url,
            connection_class=psycopg.Connection[DictRow],
            # Without prepared statements a transaction-pooling PgBouncer may stand between.
            kwargs={"row_factory": dict_row, "connect_timeout": _PATIENCE, "prepare_threshold": None},
            configure=_configure,
            check=ConnectionPool.check_connection,  # so that a restart of the server costs no caller a failure
            min_size=1,
            max_size=16,
            timeout=_PATIENCE,
            open=True,
        )
        return cls(url, pool)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[DictRow]]:
        """
        One transaction: commits at the end of the block, rolls back when it raises.

        Raises: Retry when the server does not answer, StopDaemon when its disk is full.
        """
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise self._treatment(error) from error

    def close(self) -> None:
        """Close the connections; an embedded server stops when the last process that uses it ends."""
        self._pool.close()

    def _treatment(self, error: psycopg.OperationalError) -> RelevancedError:
        address = _address(self.url)
        if isinstance(error, psycopg.errors.DiskFull):
            return StopDaemon(
                f"Postgres at {address} has no room left ({_first_line(error)}); make room, then start again."
            )
        if error.sqlstate is None:
            return Retry(f"Postgres at {address} does not answer: {_first_line(error)}.")
        return Retry(f"Postgres at {address} could not finish: {_first_line(error)}.")


def _configure(connection: psycopg.Connection[DictRow]) -> None:
    register_vector(connection)
    connection.commit()


def _migrate(connection: psycopg.Connection[DictRow], address: str) -> None:
    """Apply what is missing, in one transaction and one process at a time."""
    connection.execute(sql.postgres["lock_migrations"])
    connection.execute(sql.postgres["create_schema"])
    _require_pgvector(connection, address)
    connection.execute(sql.postgres["search_our_schema_first"])
    applied = {row["name"] for row in connection.execute(sql.postgres["applied_migrations"])}
    known = sql.migrations()
    if unknown := sorted(applied - known.keys()):
        raise BadInput(
            f"Postgres at {address} was set up by a newer relevanced, with {unknown[-1]}; install that one here too."
        )
    for name, text in known.items():
        if name not in applied:
            connection.execute(text)
            connection.execute(sql.postgres["record_migration"], {"name": name})


def _require_pgvector(connection: psycopg.Connection[DictRow], address: str) -> None:
    wanted = ".".join(map(str, OLDEST_PGVECTOR))
    try:
        connection.execute(sql.postgres["create_extension"])
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise BadInput(f"Postgres at {address} has no pgvector; install {wanted} or newer on that machine.") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise BadInput(
            f"The user of Postgres at {address} may not add pgvector; let its owner run CREATE EXTENSION vector."
        ) from error
    (row,) = connection.execute(sql.postgres["extension_version"])
    found = str(row["extversion"])
    if tuple(int(part) for part in found.split(".") if part.isdigit()) < OLDEST_PGVECTOR:
        raise BadInput(
            f"Postgres at {address} has pgvector {found}, and {wanted} is the oldest without bugs that damage indexes; "
            "install a newer one, then run ALTER EXTENSION vector UPDATE."
        )


def _address(url: str) -> str:
    """Where the server is, for people: never with the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise BadInput(
            "RELEVANCED_DATABASE_URL cannot be read; write postgresql://USER:PASSWORD@HOST:5432/DATABASE."
        ) from error
    host = str(parts.get("host") or parts.get("hostaddr") or "localhost")
    port = "" if host.startswith("/") else f":{parts.get('port', 5432)}"
    return f"{host}{port}"


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
