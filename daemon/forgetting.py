"""
Forgetting a person: no byte of an id, or of what only they typed, stays in the state directory or in Postgres.

In:  the id of a client or a session. Out: rows, dead letters, copies in cycles/ and snapshots gone; the account of it.
Copies go first and rows after them, since the rows say which copies there are: killed anywhere, it is begun again.
Consumers may go on meanwhile; a cycle may not.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import msgspec
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.evidence import drop_evidence
from relevanced.daemon.files import whole_file
from relevanced.daemon.lease import Lease
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.ports import Progress
from relevanced.daemon.privacy import PrivacyPolicy, keys, protected_id
from relevanced.daemon.queries import query_key
from relevanced.daemon.records import Outcome
from relevanced.daemon.upkeep import LEASE_SECONDS, expire, patiently, write_few_files

WRITING: Final = timedelta(minutes=10)  # a file without a snapshot may be of a transaction that is under way
SEGMENTS: Final = 100  # of Postgres' log, which keeps far fewer
TELLING: Final = 8  # characters of an id or text that is looked for within others
# What an application or a document is called. A client and a document may both be number 42.
_OF_NOBODY: Final = frozenset(
    {"action_name", "application", "document_id", "object", "object_id", "query_response_hit_ids", "timestamp"}
)
EVENT_TABLES: Final = ("query", "impression", "click", "feedback")


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Who is to be forgotten: the id as the application sends it."""

    kind: Literal["client", "session"]
    raw_id: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What tells of a person, beside the hashes: their id, their searches, and the texts that nobody else typed."""

    raw_id: str
    query_ids: frozenset[str]
    texts: frozenset[str]
    query_keys: frozenset[str]

    def are_in(self, payload: bytes) -> bool:
        """
        Whether a record names the id, belongs to one of the searches, or has one of the texts.

        The id and the texts count as the whole of a value, or, where they are long enough to mean nobody else, within
        one: the id 42 is in many a timestamp.
        """
        try:
            record = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = payload.decode(errors="replace")
            return any(_is_within(one, text) or f'"{one}"' in text for one in (self.raw_id, *self.texts))
        if isinstance(record, dict) and record.get("query_id") in self.query_ids:
            return True
        return any(
            text == self.raw_id or text in self.texts or _is_within(self.raw_id, text) for text in _strings(record)
        )


def forget(
    person: Person,
    *,
    database: Database,
    log_store: LogStore,
    cycles: Path,
    policy: PrivacyPolicy,
    erase_spool: Callable[[Traces], int],
    own_server: Path | None,
    now: datetime,
    progress: Progress,
) -> Outcome:
    """
    Remove all that is of this person.

    Args:
        cycles: the directory with a directory for each cycle.
        erase_spool: removes from the spool's own files the records that the traces are in.
        own_server: the data directory of the embedded Postgres, or None for an operator's server.
    Raises: BadInput while a cycle or the upkeep runs.
    """
    leases = _leases(database)
    try:
        with log_store.maintenance() as cursor:
            _gather(cursor, database, person, policy)
            traces = _traces(cursor, person.raw_id)
            progress("Forgetting", 1, 5)
            trained, perhaps = _lineage(cursor, database)
            spooled = erase_spool(traces)
            drop_evidence(cycles)
            copies = sum(_erase_copies(file, traces) for file in sorted(cycles.rglob("*.parquet")))
        progress("Forgetting", 2, 5)

        def remove() -> dict[str, int]:
            with log_store.maintenance_alone() as cursor:
                _gather(cursor, database, person, policy)
                return _remove(cursor, database, traces, trained)

        removed = patiently(remove)
        progress("Forgetting", 3, 5)
        _purge_lake(database, log_store, now)
        progress("Forgetting", 4, 5)
        _purge_postgres(database.url, own_server, traces)
        with database.connection() as connection:
            ended = connection.execute(sql.postgres["end_forgetting"]).fetchall()
        progress("Forgetting", 5, 5)
    finally:
        for lease in leases:
            lease.release()
    versions = sorted({version for row in ended for version in row["version_ids"]} | set(trained))
    numbers = {
        "removed": {**removed, "spool": spooled, "copies": copies},
        "texts": len(traces.texts),
        "versions": versions,
        "versions_perhaps": perhaps,
    }
    named = ", ".join(map(str, versions)) or "none"
    rows = sum(removed.values())
    return Outcome(
        f"Removed {rows:,} rows, {spooled:,} spooled records and {copies:,} mined rows of this {person.kind}."
        f" Versions trained from a log with rows of theirs: {named}.",
        numbers,
    )


def _leases(database: Database) -> list[Lease]:
    taken: list[Lease] = []
    for name, who in (("cycle", "A cycle runs"), ("upkeep", "The upkeep of the log runs")):
        lease = Lease.acquire(database, name, seconds=LEASE_SECONDS)
        if lease is None:
            for other in taken:
                other.release()
            raise BadInput(f"{who}, and may copy what is to be forgotten; begin again when it has ended.")
        taken.append(lease)
    return taken


def _gather(cursor: DuckDBPyConnection, database: Database, person: Person, policy: PrivacyPolicy) -> None:
    with database.connection() as connection:
        known = keys(connection, policy.key_days)
    hashes = [protected_id(person.raw_id, number, key) for number, key in known.items()]
    cursor.register("person", pa.table({"id": hashes}))
    cursor.execute("SET VARIABLE by_session = $by_session", {"by_session": person.kind == "session"})
    cursor.execute(sql.duckdb["gather_person"])


def _traces(cursor: DuckDBPyConnection, raw_id: str) -> Traces:
    texts = frozenset(_column(cursor, "their_texts"))
    their_keys = {query_key(text) for text in texts}
    if their_keys:
        their_keys -= {query_key(text) for text in _column(cursor, "others_texts")}
    return Traces(raw_id, frozenset(_column(cursor, "their_query_ids")), texts, frozenset(their_keys))


def _lineage(cursor: DuckDBPyConnection, database: Database) -> tuple[list[int], list[int]]:
    """Versions whose snapshot holds rows of theirs, and those that came after their first row and whose is gone."""
    with database.connection() as connection:
        trained = connection.execute(sql.postgres["trained_versions"]).fetchall()
    known = set(_column(cursor, "known_snapshots"))
    (first,) = _column(cursor, "their_first_time")
    surely, perhaps = [], []
    for row in trained:
        if row["snapshot_id"] not in known:
            if first is not None and first <= row["created_at"]:
                perhaps.append(row["version_id"])
            continue
        statement = sql.duckdb["their_rows_at"].format(snapshot_id=int(row["snapshot_id"]))  # AT takes no parameter
        ((count,),) = cursor.execute(statement).fetchall()
        if count:
            surely.append(row["version_id"])
    return surely, perhaps


def _erase_copies(file: Path, traces: Traces) -> int:
    """Rewrite a Parquet file of a cycle without the rows of their texts; returns how many those were."""
    table = pq.read_table(file)
    theirs = pa.array([False] * len(table), pa.bool_())
    columns = {"user_query": traces.texts, "anchor": traces.texts, "query_key": traces.query_keys}
    for name, values in columns.items():
        if name in table.column_names:
            found = pc.is_in(table[name], pa.array(sorted(values), pa.string()))
            theirs = pc.or_(theirs, found.combine_chunks())
    count = int(pc.sum(theirs).as_py() or 0)
    if count:
        with whole_file(file) as partial:
            pq.write_table(table.filter(pc.invert(theirs)), partial)
    return count


def _remove(cursor: DuckDBPyConnection, database: Database, traces: Traces, trained: list[int]) -> dict[str, int]:
    cursor.execute("BEGIN")
    try:
        letters = [
            letter_id
            for letter_id, payload in cursor.execute(sql.duckdb["dead_letter_payloads"]).fetchall()
            if traces.are_in(payload)
        ]
        cursor.register("their_letters", pa.table({"dead_letter_id": pa.array(letters, pa.string())}))
        removed = {table: _count(cursor, f"forget_{table}") for table in (*EVENT_TABLES, "dead_letter")}
        with database.connection() as connection:  # before the rows go: after a kill it is all that is known
            row = {"removed_rows": sum(removed.values()), "version_ids": trained}
            connection.execute(sql.postgres["begin_forgetting"], row)
            connection.execute(sql.postgres["mine_anew"])
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # after a COMMIT that failed there is nothing left to roll back
            cursor.execute("ROLLBACK")
        raise
    return removed


def _purge_lake(database: Database, log_store: LogStore, now: datetime) -> None:
    """Write every file anew that held a row which is gone, and let all older snapshots go, whoever needed them."""
    later = now + timedelta(days=1)
    expire(log_store, [], later)
    write_few_files(log_store, 0.0, later, now - WRITING)
    expire(log_store, [], later)  # those that writing the files has made
    write_few_files(log_store, 0.0, later, now - WRITING)


def _purge_postgres(url: str, own_server: Path | None, traces: Traces) -> None:
    """Remove dead rows from the catalog's tables, and for our own server also its write-ahead log and what it said."""
    try:
        with psycopg.connect(url, autocommit=True) as postgres:
            for (table,) in postgres.execute(sql.postgres["log_catalog_tables"]).fetchall():
                statement = psycopg.sql.SQL(sql.postgres["vacuum_table"])
                postgres.execute(statement.format(table=psycopg.sql.Identifier(table)))
            postgres.execute(sql.postgres["vacuum_statistics"])
            if own_server is not None:
                _drop_write_ahead_log(postgres)
                _clear_words(own_server / "log", traces)
    except psycopg.OperationalError as error:
        raise Retry("Postgres went away while old bytes were removed; say the same again.") from error


def _drop_write_ahead_log(postgres: psycopg.Connection[Any]) -> None:
    """Go through the segments that were set aside for later use, and write one fresh one."""
    postgres.execute(sql.postgres["keep_no_old_log"])
    postgres.execute(sql.postgres["read_configuration"])
    for _ in range(SEGMENTS):
        ((left,),) = postgres.execute(sql.postgres["old_log_segments"]).fetchall()
        postgres.execute(sql.postgres["switch_log"])
        postgres.execute(sql.postgres["checkpoint"])
        if left == 0:
            break


def _clear_words(log: Path, traces: Traces) -> None:
    """Empty the server's log of errors when it quotes them; the server appends, so it goes on from the start."""
    if log.exists():
        said = log.read_bytes()
        if any(needle.encode() in said for needle in (traces.raw_id, *traces.texts)):
            os.truncate(log, 0)


def _column(cursor: DuckDBPyConnection, name: str) -> list[Any]:
    return [value for (value,) in cursor.execute(sql.duckdb[name]).fetchall()]


def _count(cursor: DuckDBPyConnection, name: str) -> int:
    ((count,),) = cursor.execute(sql.duckdb[name]).fetchall()
    return int(count)


def _is_within(needle: str, text: str) -> bool:
    """Whether a needle that is long enough to mean nobody else stands in a text, as a word."""
    if len(needle) < TELLING:
        return False
    return re.search(rf"(?<![\w-]){re.escape(needle)}(?![\w-])", text) is not None


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value that may be of a person; a number is one where it stands for an id."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name in _OF_NOBODY:
                continue
            yield from _strings(str(inner) if name.endswith("_id") and isinstance(inner, int) else inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
