"""The daemon is killed with -9 once within each step of a cycle; the cycle ends as if nothing had happened."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.records import Cycle, Step
from relevanced.daemon.states import MOVES
from relevanced.daemon.wiring import Parts
from tests.story.town import settle, small_dataset

WORKING_STEPS = list(dict.fromkeys(step for step, _ in MOVES))
PATIENCE = 120  # seconds; only a hang waits so long

# Holds each step's process between the end of its work and the note of it, while the test holds the advisory lock of
# the step: the harshest moment for a kill, for all work has been done and nobody knows.
HOLD = """
CREATE FUNCTION relevanced.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(NEW.step::text));
    RETURN NEW;
END
$$;
CREATE TRIGGER hold BEFORE UPDATE OF verdict ON relevanced.cycle_step FOR EACH ROW EXECUTE FUNCTION relevanced.hold();
"""
WAITS = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = hashtext(%s)::bigint & 4294967295 AND NOT granted"
BEGUN = "SELECT FROM relevanced.cycle_step WHERE step = %s AND attempts = %s"


@contextmanager
def daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "relevanced.daemon", "--home", str(home), "up", "--port", str(port)]
    with (home / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes], what: str, home: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, (home / "daemon.log").read_text()[-4000:]
        assert time.monotonic() < deadline, f"waited for {what}: {(home / 'daemon.log').read_text()[-4000:]}"
        time.sleep(0.02)


def run_to_the_end(home: Path, parts: Parts, cycle: Cycle) -> Cycle:
    with daemon(home) as process:
        wait_until(
            lambda: cycle_of(parts.database, cycle.cycle_id).step == "ended", process, "the end of the cycle", home
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, "a daemon that is asked to stop ends cleanly"
    return cycle_of(parts.database, cycle.cycle_id)


def what_is_left(home: Path, parts: Parts, cycle: Cycle) -> dict[str, object]:
    """All that a cycle leaves: the triplets, the weights, the vectors, the pointer and the sentences but for times."""
    candidate = history.version(parts.database, cycle.candidate_version_id or 0)
    weights = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(candidate.directory.rglob("*.safetensors"))))
    names, vectors = parts.index.vectors(candidate.version_id, None)
    triplets = home / "cycles" / str(cycle.cycle_id) / "triplets.parquet"
    assert candidate.manifest["triplets_sha256"] == hashlib.sha256(triplets.read_bytes()).hexdigest()
    return {
        "triplets": pq.read_table(triplets).to_pylist(),
        "recipe": candidate.manifest["recipe"],
        "weights": weights.hexdigest(),
        "vectors": hashlib.sha256(vectors.tobytes() + "\n".join(names).encode()).hexdigest(),
        "serving": parts.promotion.serving(),
        "versions": [(one.version_id, one.state) for one in history.versions(parts.database)],
        "promotions": [(row["verb"], row["live_version_id"]) for row in history.serving_history(parts.database)],
        "verdicts": [(row["step"], row["verdict"]) for row in history.steps(parts.database, cycle.cycle_id)],
        "files": sorted(str(path.relative_to(home / "versions")) for path in (home / "versions").rglob("*")),
    }


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[], Path]) -> tuple[Path, Path]:
    """Two homes that are alike: the same documents, the same first version, the same clicks."""
    dataset = small_dataset(tmp_path_factory.mktemp("story") / "hpo")
    quiet, killed = new_home(), new_home()
    for home in (quiet, killed):
        settle(home, dataset)
    return quiet, killed


@pytest.fixture(scope="module")
def quiet(homes: tuple[Path, Path]) -> dict[str, object]:
    """What a cycle leaves that nobody disturbs."""
    parts = Parts(homes[0], load_settings(homes[0] / "relevanced.toml"))
    cycle = run_to_the_end(homes[0], parts, begin_cycle(parts.database, "test"))
    left = what_is_left(homes[0], parts, cycle)
    parts.close()
    return left


def kill_before_it_is_noted(home: Path, parts: Parts, step: Step) -> None:
    with psycopg.connect(parts.database.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [step])
        with daemon(home) as process:
            wait_until(lambda: connection.execute(WAITS, [step]).rowcount == 1, process, f"the end of {step}", home)
            process.kill()
            process.wait()


def kill_in_the_middle(home: Path, parts: Parts, step: Step, attempt: int) -> None:
    """As soon as the step has begun and, however quick, is not noted; the child that trains dies with its parent."""
    with psycopg.connect(parts.database.url, autocommit=True) as connection, daemon(home) as process:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [step])
        begun = lambda: connection.execute(BEGUN, [step, attempt]).rowcount == 1  # noqa: E731
        wait_until(begun, process, f"attempt {attempt} of {step}", home)
        process.kill()
        process.wait()


@pytest.mark.timeout(600)
def test_a_cycle_killed_in_every_step_ends_as_one_that_was_not(
    homes: tuple[Path, Path], quiet: dict[str, object]
) -> None:
    home = homes[1]
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    with psycopg.connect(parts.database.url, autocommit=True) as connection:
        connection.execute(HOLD)
    cycle = begin_cycle(parts.database, "test")
    for step in WORKING_STEPS:
        kill_in_the_middle(home, parts, step, attempt=1)
        kill_before_it_is_noted(home, parts, step)
    ended = run_to_the_end(home, parts, cycle)
    attempts = {row["step"]: row["attempts"] for row in history.steps(parts.database, cycle.cycle_id)}
    assert attempts == dict.fromkeys(WORKING_STEPS, 3)
    assert what_is_left(home, parts, ended) == quiet
    assert parts.promotion.serving().live_version_id == ended.candidate_version_id
    parts.close()
