"""Leases: one holder at a time, and an old token does no harm."""

import subprocess
import sys
from pathlib import Path

import pytest

from relevanced.daemon.database import Database
from relevanced.daemon.errors import StopDaemon
from relevanced.daemon.lease import Lease

HOLD_AND_WAIT = """
import sys
from pathlib import Path
from relevanced.daemon.database import Database
from relevanced.daemon.lease import Lease
assert Lease.acquire(Database.open(sys.argv[1], Path(".")), "cycle", seconds=3600)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lease_has_one_holder_until_it_is_released(database: Database) -> None:
    first = Lease.acquire(database, "cycle", seconds=60)
    assert first is not None
    assert Lease.acquire(database, "cycle", seconds=60) is None
    assert Lease.acquire(database, "retention", seconds=60) is not None
    first.release()
    second = Lease.acquire(database, "cycle", seconds=60)
    assert second is not None
    assert second.token > first.token


def test_a_lease_that_ran_out_goes_to_another_and_the_old_token_is_refused(database: Database) -> None:
    frozen = Lease.acquire(database, "cycle", seconds=0)
    assert frozen is not None
    assert frozen.renew()  # nobody took it yet
    successor = Lease.acquire(database, "cycle", seconds=60)
    assert successor is not None
    assert not frozen.renew()
    with database.connection() as connection:
        successor.check(connection)
        with pytest.raises(StopDaemon, match="took over the cycle"):
            frozen.check(connection)
    frozen.release()
    assert Lease.acquire(database, "cycle", seconds=60) is None


def test_a_holder_that_was_killed_is_not_waited_for(database: Database, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, database.url],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert Lease.acquire(database, "cycle", seconds=60) is None
        holder.kill()
        holder.wait()
    assert Lease.acquire(database, "cycle", seconds=60) is not None
