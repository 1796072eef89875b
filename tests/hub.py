"""A small Hugging Face Hub on loopback: it speaks as much of the protocol as huggingface_hub needs, both ways."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from tests.endpoints import served


@dataclass
class Hub:
    """What it holds, and what it was asked."""

    url: str
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)  # id -> path -> content
    private: dict[str, bool] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)  # the paths of all requests
    claimed_size: int | None = None  # bytes of each file, where the test wants a large model

    def revision(self, model: str) -> str:
        files = sorted(self.models[model].items())
        return hashlib.sha1(b"".join(name.encode() + content for name, content in files)).hexdigest()

    def tree(self, model: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": self.claimed_size or len(content), "oid": _oid(content)}
            for name, content in self.models[model].items()
        ]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


Answer = tuple[int, Any, dict[str, str]]  # status, body as bytes or for JSON, headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Hub

    def _say(self, answer: Answer) -> None:
        status, said, headers = answer
        sent = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(sent)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.known.asked.append(path)
        self._say(_give(self.known, path))

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.known.asked.append(path)
        allowed = self.headers["Authorization"] == "Bearer hf_secret"
        self._say(_take(self.known, path, body) if allowed else (401, {"error": "no"}, {}))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _give(known: Hub, path: str) -> Answer:
    about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
    file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
    model = (about or file or [None, ""])[1]
    if model not in known.models:
        return 404, {"error": "no"}, {"X-Error-Code": "RepoNotFound"}
    if model in known.gated:
        return 403, {"error": "no"}, {"X-Error-Code": "GatedRepo"}
    if file:
        content = known.models[model].get(file[2])
        if content is None:
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        return 200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": known.revision(model)}
    if about and about[2] == "tree":
        return 200, known.tree(model), {}
    siblings = [{"rfilename": one["path"], "size": one["size"]} for one in known.tree(model)]
    return 200, {"id": model, "sha": known.revision(model), "siblings": siblings, "private": False}, {}


def _take(known: Hub, path: str, body: bytes) -> Answer:
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in known.models
        known.models.setdefault(name, {})
        known.private.setdefault(name, asked.get("private", asked.get("visibility") == "private"))
        return 409 if there else 200, {"url": f"{known.url}/{name}"}, {}
    if "/preupload/" in path:
        files = json.loads(body)["files"]
        modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
        return 200, {"files": modes}, {}
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                known.models[found[1]][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del known.models[found[1]][value["path"]]
        commit = known.revision(found[1])
        return 200, {"commitUrl": f"{known.url}/{found[1]}/commit/{commit}", "commitOid": commit}, {}
    return 200, {}, {}


@contextmanager
def hub() -> Iterator[Hub]:
    """Hold and give models until the end of the block."""
    handler = type("Handler", (_Handler,), {})
    with served(handler) as url:
        known = handler.known = Hub(url)
        yield known


def on_hub(monkeypatch: pytest.MonkeyPatch, there: Hub, folder: Path) -> None:
    """Let this process take it for the Hub, with an empty cache, a token, and the operator's leave to ask."""
    monkeypatch.setattr(constants, "ENDPOINT", there.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{there.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE")
