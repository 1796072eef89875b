"""Endpoints on loopback that speak a real protocol over HTTP, with answers that a test gives."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# The path and the body of a request -> the status and the body, for JSON or as bytes; or the Endpoint to go to instead.
Answer = Callable[[str, Any], tuple[int, Any]]


@dataclass
class Endpoint:
    """Where it listens, what it was asked, and with which keys."""

    url: str
    asked: list[Any] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def endpoint(answer: Answer) -> Iterator[Endpoint]:
    """Take JSON by POST, at any path, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known.asked.append(body)
            known.keys.append(self.headers["Authorization"])
            status, said = answer(self.path, body)
            self.send_response(status)
            if isinstance(said, Endpoint):
                self.send_header("Location", said.url + self.path)
                said = b""
            sent = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with served(Handler) as url:
        known = Endpoint(url)
        yield known


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of loopback until the end of the block; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chat(answer: Callable[[Any], tuple[int, Any]]) -> AbstractContextManager[Endpoint]:
    """A language model in OpenAI's protocol: the body of a request -> the status, and what is said or the error."""

    def completion(path: str, body: Any) -> tuple[int, Any]:
        status, said = answer(body)
        if path != "/v1/chat/completions" or status != 200 or isinstance(said, bytes):
            return (status if path == "/v1/chat/completions" else 404), said
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return 200, {**head, "choices": [choice]}

    return endpoint(completion)
