"""kill -9 of the consumer process at random moments: every good event once, every broken one once aside."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from relevanced.consumers.spool import SpoolWriter
from relevanced.daemon.rehearsal.broker import running_broker
from tests.bench.ingest_kills import new_flow, run_seed
from tests.lake import Lake

EVENTS = 1_000
BROKEN = EVENTS // 10
KILLS = 5
PROGRAM = Path(__file__).with_name("consume_spool.py")


def good(number: int) -> dict[str, object]:
    return {
        "action_name": "click",
        "query_id": f"q{number}",
        "timestamp": "2025-01-01T00:00:00Z",
        "event_attributes": {"object": {"object_id": f"d{number}"}, "position": {"ordinal": 1}},
    }


def broken(number: int, rng: random.Random) -> bytes:
    """A record that no reader can use, in one of the ways that producers find; its number makes it recognisable."""
    return rng.choice(
        [
            b'{"action_name": "click", "query_id": "broken %d",' % number,
            b'{"query_id": "broken \xff%d", "user_query": "x"}' % number,
            b'{"user_query": "no query_id, broken %d"}' % number,
            b'{"action_name": "click", "query_id": "broken %d", "timestamp": "yesterday"}' % number,
            json.dumps({"query_id": f"broken {number} " + "x" * 100, "user_query": "x"}).encode(),
        ]
    )


def fill_spool(directory: Path, rng: random.Random) -> dict[bytes, int]:
    """Good events by our own writer, in several files, and broken ones among them in a file of somebody else."""
    writer = SpoolWriter(directory, max_file_bytes=30_000)
    numbers = list(range(EVENTS))
    rng.shuffle(numbers)
    bad = {broken(number, rng): number for number in numbers[:BROKEN]}
    others = [json.dumps(good(number)).encode() for number in numbers[BROKEN : EVENTS // 2]]
    lines = [*bad, *others]
    rng.shuffle(lines)
    (directory / "others.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    for number in numbers[EVENTS // 2 :]:
        writer.write([good(number)])
    writer.close()
    return bad


def test_killed_five_times_every_good_event_counts_once_and_every_broken_one_is_aside_once(
    new_database_url: Callable[[], str], tmp_path: Path
) -> None:
    rng = random.Random(7)
    spool, lake = tmp_path / "spool", Lake(new_database_url(), tmp_path / "lake")
    bad = fill_spool(spool, rng)
    log_store = lake.open()

    def stored() -> int:
        return sum(log_store.offsets("spool").values())

    everything = sum(path.stat().st_size for path in spool.iterdir())
    command = [sys.executable, str(PROGRAM), str(spool), lake.database_url, str(lake.data_path)]
    killed_at: list[int] = []
    for kill in range(KILLS + 1):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as consumer:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == b"ready\n"
            goal = everything if kill == KILLS else everything * (kill + 1) // (KILLS + 2)
            while stored() < goal:
                assert consumer.poll() is None
                time.sleep(0.02)  # leaves the cores to the consumer
            if kill < KILLS:
                time.sleep(rng.uniform(0.0, 0.05))  # anywhere within a batch, which takes about as long
                killed_at.append(stored())
            consumer.kill()
    assert all(0 < offset < everything for offset in killed_at)

    clicks = [document for (document,) in lake.rows("SELECT document_id FROM click")]
    letters = [payload for (payload,) in lake.rows("SELECT payload FROM dead_letter")]
    assert Counter(clicks) == Counter(f"d{number}" for number in range(EVENTS) if number not in bad.values())
    assert Counter(letters) == Counter(bad.keys())
    assert lake.rows("SELECT count(*) FROM dead_letter WHERE reason = ''") == [(0,)]
    log_store.close()


def test_two_kafka_consumers_killed_again_and_again_lose_and_double_nothing(postgres: str) -> None:
    """The proof by the hundred is `python -m tests.bench.ingest_kills`."""
    with running_broker() as address, new_flow(address, postgres) as flow:
        account = run_seed(flow, kills=4, records=2_000, seed=1)
    assert (account.lost, account.duplicated, account.kills) == (0, 0, 4)
