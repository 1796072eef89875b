"""The socket and the server: a busy port is one sentence, and an event ends it cleanly."""

import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI

from relevanced.daemon.errors import BadInput
from relevanced.daemon.web.server import listen, serve


@pytest.fixture
def listener():
    with listen("127.0.0.1", 0) as listener:
        yield listener


def address(listener):
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_busy_port_is_told_with_the_remedy(listener):
    port = listener.getsockname()[1]
    with pytest.raises(BadInput, match=f"^Port {port} on 127.0.0.1 is in use; give another with --port.$"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.1", "relevanced.example"])
def test_only_loopback_is_listened_on(host):
    with pytest.raises(BadInput, match=r"127\.0\.0\.1"):
        listen(host, 0)


def test_a_number_that_is_no_port_is_told():
    with pytest.raises(BadInput, match="70000 is not a port"):
        listen("127.0.0.1", 70_000)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_loopback_of_ipv6_will_do():
    listen("::1", 0).close()


def test_a_connection_sends_at_once(listener):
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_event_ends_it_after_the_request_in_flight(listener):
    app, stop, asked, go_on = FastAPI(), threading.Event(), threading.Event(), threading.Event()

    @app.get("/")
    def slow() -> str:
        asked.set()
        go_on.wait(10)
        return "answered"

    url = address(listener)
    with ThreadPoolExecutor(2) as pool:
        serving = pool.submit(serve, app, listener, stop)
        answer = pool.submit(httpx.get, url, timeout=20)
        assert asked.wait(10)
        stop.set()
        go_on.set()
        assert answer.result().json() == "answered"
        serving.result(timeout=10)

    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_for_the_other_parts_too_and_is_not_raised_again(listener, number):
    app, stop, raised_again = FastAPI(), threading.Event(), []
    before = signal.signal(number, lambda *_: raised_again.append(number))

    @app.get("/")
    async def interrupt() -> None:
        signal.raise_signal(number)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.get, address(listener), timeout=20)
        serve(app, listener, stop)
        assert answer.result().status_code == 200
    signal.signal(number, before)

    assert stop.is_set()
    assert raised_again == []
