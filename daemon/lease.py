"""
Leases: who may do what, until when.

In:  a name and a time. Out: a lease with its fencing token; cycle checks it in the transaction that ends a step.
Rows rather than advisory locks, which do not hold behind a PgBouncer that pools transactions.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import psutil
import psycopg
import structlog
from psycopg.rows import DictRow

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import Retry, StopDaemon

log = structlog.get_logger()


class Lease:
    """A lease that this process holds until `release`, or until it was not renewed in time and another took it."""

    def __init__(self, database: Database, name: str, seconds: float, token: int) -> None:
        self.token = token
        self._database = database
        self._row = {"name": name, "seconds": seconds, "token": token}

    @classmethod
    def acquire(cls, database: Database, name: str, *, seconds: float) -> Self | None:
        """Take the lease for so many seconds, or return None while another holds it."""
        with database.connection() as connection:
            held = connection.execute(sql.postgres["lease_holder"], {"name": name}).fetchone()
            dead_holder = held["holder"] if held and _is_dead(held["holder"]) else None
            wanted = {"name": name, "holder": _this_process(), "seconds": seconds, "dead_holder": dead_holder}
            row = connection.execute(sql.postgres["take_lease"], wanted).fetchone()
        return cls(database, name, seconds, row["token"]) if row else None

    def renew(self) -> bool:
        """Hold it for as long again from now; False when another has taken it."""
        with self._database.connection() as connection:
            return connection.execute(sql.postgres["renew_lease"], self._row).fetchone() is not None

    def release(self) -> None:
        """Let others take it at once."""
        with self._database.connection() as connection:
            connection.execute(sql.postgres["release_lease"], self._row)

    def check(self, connection: psycopg.Connection[DictRow]) -> None:
        """
        Make sure, in the caller's transaction, that what it writes is still this holder's to write.

        Raises: StopDaemon when another has taken the lease.
        """
        if connection.execute(sql.postgres["check_lease"], self._row).fetchone() is None:
            raise StopDaemon(
                f"Another process took over the {self._row['name']} while this one did not answer; what this one did "
                "since is dropped, so start it again."
            )


@contextmanager
def leased(database: Database, name: str, *, seconds: float, busy: Exception) -> Iterator[Lease]:
    """
    Hold a lease for as long as the block takes, which may be hours: a thread of its own renews it.

    Args:
        busy: is raised while another holds it.
    """
    lease = Lease.acquire(database, name, seconds=seconds)
    if lease is None:
        raise busy
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 3):
            try:
                lease.renew()
            except Retry as error:
                log.warning("lease not renewed", reason=str(error))

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        lease.release()


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that has ended; ids are given again, hence the start time."""
    host, pid, started = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(started)) > 1)
    except psutil.NoSuchProcess:
        return True
