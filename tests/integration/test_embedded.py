"""The Postgres that comes with the package: found again after a crash, shared by processes, stopped by the last."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from relevanced.daemon.database import Database
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.errors import BadInput

OPEN_AND_WAIT = """
import sys
from pathlib import Path
from relevanced.daemon.database import Database
database = Database.open(None, Path(sys.argv[1]))
with database.connection() as connection:
    connection.execute("SELECT pg_advisory_xact_lock(1)")  # Postgres does not stand the next line said twice at once
    connection.execute("CREATE TABLE IF NOT EXISTS kept ()")
print("open", flush=True)
sys.stdin.read()
"""


def opening(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN_AND_WAIT, str(home)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_two_processes_share_it_and_a_third_finds_it_after_both_were_killed(new_home: Callable[[], Path]) -> None:
    home = new_home()
    with opening(home) as first, opening(home) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            process.kill()
        for process in (first, second):
            process.wait()
            assert process.stderr is not None
            assert process.stderr.read() == ""
    database = Database.open(None, home)
    with database.connection() as connection:
        connection.execute("SELECT FROM kept")
    database.close()
    # The dead are no longer counted as users, so this process is the last one, which stops the server.
    assert json.loads((home / "postgres" / ".handle_pids.json").read_text()) == [os.getpid()]


def test_a_pid_that_another_process_has_by_now_is_not_taken_for_the_server(new_home: Callable[[], Path]) -> None:
    home = new_home()
    with opening(home) as process:
        process.communicate("")  # it ends, and stops the server
    directory = home / "postgres"
    (directory / "postmaster.pid").write_text(f"{os.getpid()}\n{directory}\n1\n5432\n{directory}\n\n  1  1\nready   \n")
    with psycopg.connect(start_embedded(home)) as connection:
        connection.execute("SELECT FROM kept")


def test_a_server_that_does_not_start_says_why(new_home: Callable[[], Path]) -> None:
    home = new_home()
    with opening(home) as process:
        process.communicate("")
    with (home / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(BadInput, match=r"does not start: .*FATAL: +configuration file .* contains errors") as caught:
        start_embedded(home)
    assert "\n" not in str(caught.value)


def test_a_state_directory_that_cannot_be_made_is_named(new_home: Callable[[], Path]) -> None:
    file = new_home() / "file"
    file.touch()
    with pytest.raises(BadInput, match=r"The embedded Postgres in .*/file/postgres does not start"):
        start_embedded(file)


def test_files_that_a_kill_left_half_written_are_no_hindrance(new_home: Callable[[], Path]) -> None:
    home = new_home()
    with opening(home) as process:
        process.communicate("")
    (home / "postgres" / ".handle_pids.json").write_text("[12, ")
    (home / "postgres" / "postmaster.pid").write_text("")
    with psycopg.connect(start_embedded(home)) as connection:
        connection.execute("SELECT FROM kept")
