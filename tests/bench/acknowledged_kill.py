"""
kill -9 of the server in the midst of requests, with Postgres stopped: what was acknowledged is in the log store, once.

    python -m tests.bench.acknowledged_kill [COUNT]
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from relevanced.daemon.config import load_settings
from relevanced.daemon.wiring import Parts

THREADS = 8
IN_A_BODY = 10


def relevanced(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "relevanced.daemon", "--home", str(home), *words]


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def click(name: str) -> dict[str, object]:
    return {
        "action_name": "click",
        "query_id": f"q {name}",
        "timestamp": "2026-01-31T09:12:45Z",
        "event_attributes": {"object": {"object_id": name}, "position": {"ordinal": 1}},
    }


def post_until_killed(url: str, thread: int, acknowledged: list[str]) -> None:
    """Post bodies of a few records, one after the other; note those of which the server said that they are safe."""
    with httpx.Client(timeout=30) as client:
        number = 0
        while True:
            names = [f"{thread}-{number + place}" for place in range(IN_A_BODY)]
            number += IN_A_BODY
            try:
                answer = client.post(url, json=[click(name) for name in names])
            except httpx.TransportError:
                return
            assert answer.status_code == 202, answer.text
            acknowledged.extend(names)


def main(count: int) -> dict[str, int]:
    home = Path(tempfile.mkdtemp(prefix="relevanced-"))
    subprocess.run(relevanced(home, "init"), check=True)  # its Postgres stops when it ends
    pid_file = home / "postgres" / "postmaster.pid"
    assert not pid_file.exists() or not psutil.pid_exists(int(pid_file.read_text().split()[0]))
    port = free_port()
    url, acknowledged = f"http://127.0.0.1:{port}/v1/events", list[str]()
    with (
        subprocess.Popen(relevanced(home, "events", "serve", "--port", str(port)), stdout=subprocess.PIPE) as server,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        assert server.stdout is not None
        assert b"Taking events" in server.stdout.readline()
        posting = [pool.submit(post_until_killed, url, thread, acknowledged) for thread in range(THREADS)]
        tick = threading.Event()
        while len(acknowledged) < count and not any(post.done() for post in posting):
            tick.wait(0.01)
        server.kill()
        for post in posting:
            post.result()
    subprocess.run(relevanced(home, "consume", "--until-empty"), check=True)
    parts = Parts(home, load_settings(None))
    cursor = parts.log_store._connection.cursor()
    stored = Counter(name for (name,) in cursor.execute("SELECT document_id FROM lake.click").fetchall())
    parts.close()
    return {
        "acknowledged": len(acknowledged),
        "stored_of_them": sum(1 for name in acknowledged if stored[name]),
        "lost": sum(1 for name in acknowledged if not stored[name]),
        "duplicated": sum(1 for copies in stored.values() if copies > 1),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))  # noqa: T201
