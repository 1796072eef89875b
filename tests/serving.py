"""A real server on a free port, for tests of what is said over HTTP."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from fastapi import FastAPI

from relevanced.daemon.web.server import listen, serve


@contextmanager
def served_app(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve the app while the block runs; its client knows the address as base_url."""
    listener, stop = listen("127.0.0.1", 0), threading.Event()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=30) as client:
        serving = pool.submit(serve, app, listener, stop)
        try:
            yield client
        finally:
            stop.set()
            serving.result(timeout=10)
