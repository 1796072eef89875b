"""
Upkeep: the lake stays quick to read, and nothing in it grows older than it may.

In:  the log store, and the snapshots that the open cycle and the versions need. Out: the same rows in few files, and
none past [privacy] retention_days. Begun by the scheduler, or by `relevanced compact`; consumers go on meanwhile.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import pyarrow as pa
import tenacity
from duckdb import DuckDBPyConnection

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.lease import Lease
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.ports import Progress
from relevanced.daemon.privacy import PrivacyPolicy
from relevanced.daemon.records import Outcome

T = TypeVar("T")

LEASE_SECONDS: Final = 3600.0  # a process that dies gives it back at once; one on another machine after this
GRACE: Final = timedelta(hours=1)  # a reading of an older snapshot or file may still be going on
ORPHAN_GRACE: Final = timedelta(days=1)  # a transaction that is under way has younger files
DELETED_SHARE: Final = 0.25  # of a file, from which on writing it anew is worth it
TABLES: Final = ("query", "impression", "click", "feedback", "dead_letter")


def keep_up(
    database: Database, log_store: LogStore, policy: PrivacyPolicy, now: datetime, progress: Progress
) -> Outcome:
    """
    Drop what is too old, expire snapshots that nothing needs, and write few files for many.

    Raises: BadInput while another process does the same; Retry when writers came in between too often.
    """
    lease = Lease.acquire(database, "upkeep", seconds=LEASE_SECONDS)
    if lease is None:
        raise BadInput("Another process is at the upkeep of the log; let it finish.")
    try:
        return _keep_up(database, log_store, policy, now, progress)
    finally:
        lease.release()


def _keep_up(
    database: Database, log_store: LogStore, policy: PrivacyPolicy, now: datetime, progress: Progress
) -> Outcome:
    oldest = now - timedelta(days=policy.retention_days)
    dropped = patiently(lambda: _drop_older(log_store, oldest))
    with database.connection() as connection:
        connection.execute(sql.postgres["drop_privacy_keys"], {"before": oldest})
        rows = connection.execute(sql.postgres["needed_snapshots"]).fetchall()
    progress("Upkeep of the log", 1, 3)
    expired = expire(log_store, [row["snapshot_id"] for row in rows], now - GRACE)
    progress("Upkeep of the log", 2, 3)
    deleted = write_few_files(log_store, DELETED_SHARE, now - GRACE, now - ORPHAN_GRACE)
    progress("Upkeep of the log", 3, 3)
    numbers = {"dropped_rows": dropped, "expired_snapshots": expired, "deleted_files": deleted}
    return Outcome(
        f"Dropped {dropped:,} rows older than {policy.retention_days} days, expired {expired:,} snapshots and deleted"
        f" {deleted:,} files.",
        numbers,
    )


def expire(log_store: LogStore, needed: list[int], before: datetime) -> int:
    """Let snapshots go that are older and not needed; returns how many."""

    def once() -> int:
        with log_store.maintenance_alone() as cursor:
            cursor.register("needed", pa.table({"snapshot_id": pa.array(needed, pa.int64())}))
            found = cursor.execute(sql.duckdb["snapshots_before"], {"before": before}).fetchall()
            snapshot_ids = [snapshot_id for (snapshot_id,) in found]
            if snapshot_ids:
                cursor.execute(sql.duckdb["expire_snapshots"], {"snapshot_ids": snapshot_ids})
            return len(snapshot_ids)

    return patiently(once)


def write_few_files(log_store: LogStore, deleted_share: float, noted_before: datetime, orphans_before: datetime) -> int:
    """Write inlined rows to files and small files into larger ones; returns how many files were deleted."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("flush_inlined", {}),
        ("rewrite_files", {"deleted_share": deleted_share}),
        ("merge_files", {}),
    ]
    for name, parameters in steps:
        patiently(lambda name=name, parameters=parameters: _call(log_store, name, parameters))  # type: ignore[misc]
    cleaned = patiently(lambda: _call(log_store, "clean_up_files", {"before": noted_before}))
    return cleaned + patiently(lambda: _call(log_store, "delete_orphans", {"before": orphans_before}))


def patiently(work: Callable[[], T]) -> T:
    """Repeat what a writer came in between of."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Retry),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5.0),
        stop=tenacity.stop_after_delay(120),
        reraise=True,
    )(work)


def _call(log_store: LogStore, name: str, parameters: dict[str, Any]) -> int:
    with log_store.maintenance_alone() as cursor:
        return len(cursor.execute(sql.duckdb[name], parameters).fetchall())


def _drop_older(log_store: LogStore, oldest: datetime) -> int:
    with log_store.maintenance_alone() as cursor:
        cursor.execute("BEGIN")
        dropped = sum(_deleted(cursor, f"drop_old_{table}", {"before": oldest}) for table in TABLES)
        cursor.execute("COMMIT")
    return dropped


def _deleted(cursor: DuckDBPyConnection, name: str, parameters: dict[str, Any]) -> int:
    ((count,),) = cursor.execute(sql.duckdb[name], parameters).fetchall()
    return int(count)
