"""
The documents follow the operator's own table or view.

In:  a Source. Out: rows of relevanced.document, whose own trigger tells the indexes. A table carries triggers that take
over each change in the transaction that makes it; a refresh takes over what they could not, and all of a view.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.own_table import (
    Connection,
    DocumentsPolicy,
    Source,
    attached_source,
    require_distinct,
    source_of,
    told,
)
from relevanced.daemon.ports import Progress, silent
from relevanced.daemon.records import Outcome

TRIGGERS: Final = 4  # for INSERT, UPDATE, DELETE and TRUNCATE
_CHUNK: Final = 1000  # documents written while writers of the table wait: about a fifth of a second
_LOCK_MS: Final = 500  # that we wait for writers, and others for us, at a time
_ATTEMPTS: Final = 20  # with as long in between

Result = TypeVar("Result")


def attach(database: Database, policy: DocumentsPolicy, *, replace: bool, progress: Progress) -> Outcome:
    """
    Let the documents come from the table or view of the settings, and copy what is there.

    The triggers come first, in a transaction of their own, so that the copy locks nobody out. Killed on the way, it
    may be said again.

    Args:
        replace: delete documents that are not from there.
    Raises: BadInput when it does not fit, Retry when a long transaction holds it.
    """
    with database.connection() as connection:
        before = attached_source(connection)
        source = source_of(connection, policy)
        if not replace and (before is None or before.relation != source.relation):
            (row,) = connection.execute(source.statement("count_strays"))
            if row["strays"]:
                raise BadInput(
                    f"{row['strays']:,} documents are not in {source.name}; add --replace to delete them once it is"
                    " attached."
                )
    _patiently(lambda: _install(database, source), source)
    copied = _refresh(database, progress)
    how = (
        "its triggers take over each change in the transaction that makes it"
        if source.has_triggers
        else "it cannot carry triggers that see every change, so `relevanced up` compares it again and again, and"
        " `relevanced documents refresh` does so now"
    )
    return Outcome(f"Attached {source.name}: {copied.sentence} From here on {how}.", copied.numbers)


def detach(database: Database, *, delete_documents: bool) -> Outcome:
    """
    Remove triggers and function; the documents stay, unless they shall go.

    Raises: BadInput when nothing is attached, Retry when a long transaction holds the table.
    """
    with database.connection() as connection:
        source = _require_attached(connection)
    numbers: dict[str, int] = {}

    def remove() -> None:
        with database.connection() as connection:
            connection.execute(sql.postgres["bound_waiting"], {"lock_ms": str(_LOCK_MS)})
            (found,) = connection.execute(sql.postgres["source_triggers"])
            connection.execute(sql.postgres["drop_take_over"])
            connection.execute(sql.postgres["forget_source"])
            (counted,) = connection.execute(sql.postgres["count_documents"])
            if delete_documents:
                connection.execute(sql.postgres["delete_all_documents"])
            numbers.update(triggers=found["triggers"], documents=counted["documents"])

    _patiently(remove, source)
    removed = (
        f"removed {numbers['triggers']} triggers and their function" if numbers["triggers"] else "it had no triggers"
    )
    fate = "were deleted" if delete_documents else "stay as they are"
    return Outcome(f"Detached {source.name}: {removed}; its {numbers['documents']:,} documents {fate}.", numbers)


def refresh(database: Database, progress: Progress) -> Outcome:
    """
    Compare the documents with the table or view that is attached, by content, and take over what differs.

    Raises: BadInput when nothing is attached or it cannot be read, Retry when a long transaction writes to it.
    """
    outcome = _refresh(database, progress)
    return Outcome(f"Refreshed from {outcome.numbers['table']}: {outcome.sentence}", outcome.numbers)


def refresh_if_due(database: Database, *, anyway: bool = False) -> Outcome | None:
    """
    Refresh from a view, or from a table with changes that its triggers could not take over; None: nothing was amiss.

    Args:
        anyway: look at a table without such changes too, for what its triggers never saw.
    """
    with database.connection() as connection:
        source = attached_source(connection)
        failures = connection.execute(sql.postgres["source_failures"]).fetchall()
    if source is None or (source.has_triggers and not failures and not anyway):
        return None
    outcome = refresh(database, silent)
    changed = failures or any(outcome.numbers[kind] for kind in ("added", "changed", "deleted"))
    return outcome if changed else None


def count_lost(database: Database) -> tuple[int, str]:
    """
    Count documents that are not as the attached table or view has them, and say so after another sentence.

    Returns: 0 and nothing to say where none is attached, or all is as it should be.
    Raises: BadInput when it cannot be read.
    """
    with database.connection() as connection:
        source = attached_source(connection)
        if source is None:
            return 0, ""
        with told(source):
            (row,) = connection.execute(source.statement("count_differing"))
    if not row["differing"]:
        return 0, ""
    return row["differing"], (
        f" {row['differing']:,} documents are not as {source.name} has them; `relevanced documents refresh` takes over"
        " what differs."
    )


def source_status(database: Database) -> dict[str, Any] | None:
    """What is attached, its triggers, and what they could not take over; None: documents are loaded."""
    with database.connection() as connection:
        source = attached_source(connection)
        if source is None:
            return None
        (triggers,) = connection.execute(sql.postgres["source_triggers"])
        failures = connection.execute(sql.postgres["source_failures"]).fetchall()
    return {
        "table": source.name,
        "is_there": source.table is not None,
        "missing_triggers": TRIGGERS - triggers["enabled"] if source.has_triggers else 0,
        "failures": len(failures),
        "last_failure": failures[-1] if failures else None,
    }


def source_sentences(status: dict[str, Any] | None) -> Iterator[str]:
    """The same in words; nothing where documents are loaded."""
    if status is None:
        return
    table = status["table"]
    yield (
        f"Documents come from {table}."
        if status["is_there"]
        else (f"{table}, which the documents come from, is no more; `relevanced documents detach` lets go of it.")
    )
    if status["is_there"] and status["missing_triggers"]:
        yield (
            f"{status['missing_triggers']} of {TRIGGERS} triggers on {table} are missing or disabled, and changes"
            " get lost; `relevanced documents attach` puts them back."
        )
    if last := status["last_failure"]:
        yield (
            f"{status['failures']:,} changes of {table} could not be taken over, the last at"
            f" {last['failed_at']:%Y-%m-%d %H:%M} ({last['problem']}); `relevanced documents refresh` makes them good,"
            " or says what to set right."
        )


def _install(database: Database, source: Source) -> None:
    """Put the triggers in place of those that were there, and remember the source."""
    with database.connection() as connection, told(source):
        connection.execute(sql.postgres["trust_no_search_path"])
        connection.execute(sql.postgres["bound_waiting"], {"lock_ms": str(_LOCK_MS)})
        connection.execute(sql.postgres["drop_take_over"])
        if source.has_triggers:
            for statement in source.trigger_statements(connection):
                connection.execute(statement)
        connection.execute(
            sql.postgres["record_source"],
            {
                "relation": source.relation,
                "name": source.name,
                "id_column": source.id_column,
                "title": source.title,
                "text": source.text,
                "has_triggers": source.has_triggers,
            },
        )


def _refresh(database: Database, progress: Progress) -> Outcome:
    with database.connection() as connection:
        source = _require_attached(connection)
        failures = [row["failure_id"] for row in connection.execute(sql.postgres["source_failures"])]
        with told(source):
            require_distinct(connection, source)
            rows = connection.execute(source.statement("differing_documents")).fetchall()
    numbers = {"added": 0, "changed": 0, "deleted": 0}
    done = 0
    for name, has_row in (("merge_own", True), ("delete_strays", False)):
        differing = [row["document_id"] for row in rows if row["has_row"] is has_row]
        # A view may have no key, so each chunk would read it whole; and nobody waits for it, for it has no triggers.
        size = _CHUNK if source.has_triggers else max(1, len(differing))
        for start in range(0, len(differing), size):
            chunk = differing[start : start + size]
            for kind, count in _patiently(partial(_write, database, source, name, chunk), source).items():
                numbers[kind] += count
            done += len(chunk)
            progress("Taking over documents", done, len(rows))
    with database.connection() as connection:
        connection.execute(sql.postgres["forget_failures"], {"failure_ids": failures})
        if rows:
            connection.execute(sql.postgres["analyze_documents"])
        (counted,) = connection.execute(sql.postgres["count_documents"])
    sentence = (
        f"{counted['documents']:,} documents, {numbers['added']:,} new, {numbers['changed']:,} changed,"
        f" {numbers['deleted']:,} deleted."
    )
    return Outcome(sentence, {"table": source.name, "documents": counted["documents"], **numbers})


def _write(database: Database, source: Source, name: str, document_ids: Sequence[str]) -> Mapping[str, int]:
    """Compare some documents once more while no change of theirs is under way, and write them; count what was done."""
    with database.connection() as connection, told(source):
        connection.execute(sql.postgres["trust_no_search_path"])
        connection.execute(sql.postgres["bound_waiting"], {"lock_ms": str(_LOCK_MS)})
        connection.execute(sql.postgres["hold_changes"])
        by_key = name == "merge_own" and source.has_triggers  # a stray's id may not even be of the key's type
        (written,) = connection.execute(source.statement(name, document_ids, by_key=by_key))
    return written


def _require_attached(connection: Connection) -> Source:
    source = attached_source(connection)
    if source is None:
        raise BadInput("No table is attached; `relevanced documents attach` takes documents from one of yours.")
    return source


def _patiently(act: Callable[[], Result], source: Source) -> Result:
    """Try until the lock is free; short tries, since those who write to the table wait behind whoever waits for it."""
    for _ in range(_ATTEMPTS):
        try:
            return act()
        except Retry as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
        time.sleep(_LOCK_MS / 1000)
    raise Retry(f"A transaction that has written to {source.name} stays open; once it has ended, say this again.")
