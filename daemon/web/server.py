"""
The socket and the server around the app.

In:  a host, a port and the app. Out: answers on that port, until `stop` is set or a signal comes.
"""

import errno
import ipaddress
import signal
import socket
from threading import Event
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from relevanced.daemon.errors import BadInput

_GRACE: Final = 5  # seconds that requests in flight get to finish


def listen(host: str, port: int) -> socket.socket:
    """
    Take the port, before anything slow is started; who connects now waits until `serve` answers.

    Raises: BadInput when the port cannot be had, or the host is open to others.
    """
    host = "127.0.0.1" if host == "localhost" else host
    _require_loopback(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OverflowError:
        raise BadInput(f"{port} is not a port; give one from 1 to 65535 with --port.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"Port {port} on {host} is in use; give another with --port.") from error
        raise BadInput(f"Port {port} on {host} cannot be used ({error.strerror}); give another with --port.") from error
    # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not; without
    # it the second half of each answer waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(app: FastAPI, listener: socket.socket, stop: Event) -> None:
    """
    Answer on the listener until `stop` is set, let requests in flight finish, and close it.

    In the main thread a SIGINT or SIGTERM sets `stop`, so that the other parts hear of it too; a second one does not
    wait for the requests.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # telemetry has set the logs up
        access_log=False,  # it would hold what people typed
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    _Server(config, stop).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn's server, ended by an event instead of by itself."""

    def __init__(self, config: uvicorn.Config, stop: Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not by uvicorn's own handler: it raises the signal again afterwards, which ends the process half closed.
        if self._stop.is_set() and sig == signal.SIGINT:
            self.force_exit = True
        self._stop.set()


def _require_loopback(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise BadInput(f'{host} is not an address of this machine; set host = "127.0.0.1" under [serving].') from None
    if not loopback:
        raise BadInput(
            f"{host} is open to others and nothing would ask them who they are; "
            "listen on 127.0.0.1 and put a proxy with authentication in front."
        )
