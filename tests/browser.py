"""A real browser, and a site for it to visit."""

import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BROWSER = next(filter(None, map(shutil.which, ["chromium-headless-shell", "chromium", "google-chrome"])), None)


@contextmanager
def site(pages: Mapping[str, str], host: str = "127.0.0.1") -> Iterator[str]:
    """Another origin, with the pages that are in the mapping by then; gives its address."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def see(url: str) -> str:
    """What the page has become after its scripts, its pictures and its links."""
    return _visit(url).stdout


def complaints(url: str) -> list[str]:
    """What a page, its frames included, writes to the browser's console: errors, and what its policy forbids."""
    return [line for line in _visit(url, "--enable-logging=stderr").stderr.splitlines() if ":CONSOLE" in line]


def _visit(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", *options]
    return subprocess.run([*command, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=120)
