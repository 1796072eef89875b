"""
What people notice of a promotion: search load over two real replicas while the index of a second version is prepared,
promoted, rolled back and promoted again, and documents come, change and go.

    python -m tests.bench.promotion [--queries 20000] [--documents 1000]

Every answer is checked afterwards against an exact search in the space of the version that it names: mixed are those of
which a score is not that version's; missing and stale documents are those that an answer lacks, or ranks by a content
that was replaced, more than LAG_SECONDS after the change. The last line is one JSON object.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from relevanced.daemon import history
from relevanced.daemon.config import load_settings
from relevanced.daemon.documents import document_text, load_documents
from relevanced.daemon.embeddings import Embeddings
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.following import follow
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import Vectors, silent
from relevanced.daemon.records import Document
from relevanced.daemon.wiring import Parts

CLIENTS = 8
K = 10
CHANGES_PER_S = 10
LAG_SECONDS = 10.0  # that an index may be behind the documents; kept versions follow every 2 s
TOLERANCE = 0.01  # of a score: half precision in the table, bf16 in the encoder; between two versions it is far more

SIGNS = ["pain", "swelling", "itching", "numbness", "weakness", "bleeding", "stiffness", "burning", "redness", "cramps"]
PLACES = [
    "heart",
    "liver",
    "kidney",
    "knee",
    "skin",
    "eye",
    "ear",
    "nose",
    "throat",
    "lung",
    "stomach",
    "back",
    "spine",
]
WHENS = [
    "at night",
    "after meals",
    "in winter",
    "from birth",
    "in old age",
    "under stress",
    "when running",
    "in a crowd",
]
MANNERS = [
    "sudden",
    "chronic",
    "mild",
    "severe",
    "recurrent",
    "hereditary",
    "painless",
    "progressive",
    "rare",
    "typical",
]


def sentence(number: int) -> str:
    """One of 10,400 texts; those of neighbouring numbers have little in common."""
    number = number * 7919 % (len(SIGNS) * len(PLACES) * len(WHENS) * len(MANNERS))
    number, sign = divmod(number, len(SIGNS))
    number, place = divmod(number, len(PLACES))
    manner, when = divmod(number, len(WHENS))
    return f"{MANNERS[manner]} {SIGNS[sign]} of the {PLACES[place]} {WHENS[when]}"


@dataclass
class Content:
    """What a document said, and when: its statement began and had ended, and so that of the change after."""

    document_id: str
    text: str
    came: tuple[float, float]
    went: tuple[float, float] = (float("inf"), float("inf"))


@dataclass
class Answer:
    """What a replica said to a query; `hits` are documents and scores, or None where it failed."""

    replica: str
    user_query: str
    began: float
    ended: float
    version_id: int = 0
    hits: Sequence[tuple[str, float]] | None = None


@dataclass
class World:
    """A home with version 1 live, documents that change, and replicas that answer."""

    parts: Parts
    replicas: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._present: dict[str, Content] = {}
        self._texts = count()
        self._lock = threading.Lock()

    def load(self, documents: int) -> None:
        """Take in documents and make version 1."""
        now = (time.monotonic() - LAG_SECONDS,) * 2  # they have been there for long
        found = [Content(f"d{number}", sentence(next(self._texts)), now) for number in range(documents)]
        load_documents(self.parts.database, [Document(one.document_id, "", one.text) for one in found], silent)
        self._present = {one.document_id: one for one in found}
        self.contents += found
        make_first_version(self.parts.stages, self.parts.settings.model, silent)

    def new_version(self) -> int:
        """Take over the base model behind other prompts: a space of its own, whose index is still to be prepared."""
        parts = self.parts
        with parts.database.connection() as connection:
            version_id = history.register_version(connection, 1)
        name = sentence(version_id)
        policy = ModelPolicy(
            base=parts.settings.model.base, query_prompt=f"{name}, asked: ", document_prompt=f"{name}, found: "
        )
        directory = parts.models.adopt(policy, version_id)
        parts.models.write_manifest(directory, {"base": policy.base})
        encoder = parts.models.open(directory)
        history.complete_version(
            parts.database, version_id, directory, encoder.fingerprint, encoder.dimension, {"base": policy.base}
        )
        return version_id

    def prepare(self, version_id: int) -> None:
        """Build its index and have it verified."""
        version = history.version(self.parts.database, version_id)
        encoder = self.parts.models.open(version.directory)
        self.parts.index.prepare(version_id, encoder, silent)
        # Without live, for no latency can be compared here.
        assert self.parts.index.verify(version_id, encoder, []).verdict == "accepted"

    def change(self, rng: np.random.Generator) -> None:
        """Insert, update or delete one document."""
        kind = rng.choice(["insert", "update", "delete"])
        document_id = f"n{len(self.contents)}" if kind == "insert" else str(rng.choice(list(self._present)))
        text = "" if kind == "delete" else sentence(next(self._texts))
        began = time.monotonic()
        with self.parts.database.connection() as connection:
            if kind == "delete":
                connection.execute("DELETE FROM relevanced.document WHERE document_id = %s", [document_id])
            else:
                connection.execute(
                    "INSERT INTO relevanced.document (document_id, title, text) VALUES (%s, '', %s)"
                    " ON CONFLICT (document_id) DO UPDATE SET text = EXCLUDED.text",
                    [document_id, text],
                )
        span = (began, time.monotonic())
        if document_id in self._present:
            self._present.pop(document_id).went = span
        if kind != "delete":
            content = Content(document_id, text, span)
            self._present[document_id] = content
            self.contents.append(content)

    def ask(self, client: httpx.Client, replica: str, user_query: str) -> Answer:
        """Search, and note what came."""
        answer = Answer(replica, user_query, time.monotonic(), 0.0)
        try:
            response = client.get(f"{replica}/v1/search", params={"q": user_query, "k": K})
            if response.status_code == httpx.codes.OK:
                found = response.json()
                answer.version_id = found["version"]
                answer.hits = [(hit["document_id"], hit["score"]) for hit in found["hits"]]
        except httpx.HTTPError:
            pass  # it has no hits, so it counts as failed
        answer.ended = time.monotonic()
        with self._lock:
            self.answers.append(answer)
        return answer

    def compare(self, version_id: int) -> dict[str, int]:
        """Count documents whose vectors a version lacks or has of another content, while none waits in the outbox."""
        with self.parts.database.connection() as connection:
            return Embeddings(version_id, version_id).compare_with_documents(connection)


@contextmanager
def new_world(home: Path, *, documents: int, replicas: int) -> Iterator[World]:
    """Make version 1 of so many documents, and start so many replicas."""
    world = World(Parts(home, load_settings(home / "relevanced.toml")))
    try:
        assert world.parts.database  # it is set up now; the replicas come up while the documents are encoded
        world.replicas += [_start_replica(home) for _ in range(replicas)]
        world.load(documents)
        for url, process in world.replicas:
            _wait_until_ready(url, process)
        yield world
    finally:
        for _, process in world.replicas:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for _, process in world.replicas:
            process.wait(timeout=30)
        world.parts.close()


@contextmanager
def going_on(*works: Callable[[], None]) -> Iterator[None]:
    """Repeat each in a thread of its own while the block runs."""
    stop = threading.Event()

    def repeat(work: Callable[[], None]) -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(repeat, work) for work in works]
        try:
            yield
        finally:
            stop.set()
        for one in running:
            one.result()


@contextmanager
def load(world: World, user_queries: Sequence[str]) -> Iterator[None]:
    """Have clients search and documents change while the block runs; kept versions follow."""
    changes = np.random.default_rng(1)

    def change() -> None:
        world.change(changes)
        time.sleep(1 / CHANGES_PER_S)

    def keep_up() -> None:
        follow(world.parts.stages)
        time.sleep(0.5)

    def searching(number: int) -> Callable[[], None]:
        rng, turns = np.random.default_rng([2, number]), count(number)
        client = clients.enter_context(httpx.Client(timeout=60))

        def search() -> None:
            text = user_queries[min(int(rng.zipf(1.3)) - 1, len(user_queries) - 1)]
            if rng.random() < 0.3:  # many are asked often, many once
                text = str(rng.choice(list(user_queries)))
            world.ask(client, world.replicas[next(turns) % len(world.replicas)][0], text)

        return search

    with ExitStack() as clients, going_on(change, keep_up, *map(searching, range(CLIENTS))):
        yield


def drive(world: World, queries: int) -> dict[str, Any]:
    """Prepare, promote, roll back and promote under load, so that each has its share of the queries; check all."""
    user_queries = [sentence(-number) for number in range(1, max(50, queries // 20))]
    promotion, waits = world.parts.promotion, {"who": "bench", "why": "to measure"}
    first, second = 1, world.new_version()
    broken: defaultdict[str, int] = defaultdict(int)
    moves: list[tuple[float, float]] = []

    def search_on(share: float) -> float:
        enough = len(world.answers) + share * queries
        while len(world.answers) < enough:
            time.sleep(0.02)
        return time.monotonic()

    def move(verb: Callable[[], object], live: int) -> None:
        began = time.monotonic()
        verb()
        moves.append((began, time.monotonic()))
        search_on(0.2)
        for name, number in world.compare(live).items():
            broken[name] += number

    def promote() -> object:
        return promotion.promote(second, actor=waits["who"], reason=waits["why"])

    def rollback() -> object:
        return promotion.rollback(actor=waits["who"], reason=waits["why"])

    with load(world, user_queries):
        began = search_on(0.05)
        prepares = search_on(0.15)
        world.prepare(second)
        prepared = time.monotonic()
        search_on(0.2)
        move(promote, second)
        move(rollback, first)
        move(promote, second)
    follow(world.parts.stages)
    for version_id in (first, second):
        for name, number in world.compare(version_id).items():
            broken[name] += number
    found = check(world)
    rolled = moves[1][0]
    back = [
        min(one.ended for one in world.answers if one.replica == url and one.version_id == first and one.began > rolled)
        for url, _ in world.replicas
    ]
    return {
        "bench": "promotion",
        "queries": len(world.answers),
        "failed": sum(one.hits is None for one in world.answers),
        "mixed": found["mixed"],
        "missing_documents": found["missing"] + broken["missing"],
        "stale_documents": found["stale"] + broken["outdated"] + broken["gone"],
        "pause_ms": round(1000 * max(_longest_gap(world.answers, *move) for move in moves), 1),
        "promote_s": round(max(moves[place][1] - moves[place][0] for place in (0, 2)), 2),
        "rollback_s": round(max(back) - rolled, 3),
        "p99_ratio_during_prepare": round(
            _p99(world.answers, prepares, prepared) / _p99(world.answers, began, prepares), 2
        ),
        "changed_documents": len(world.contents),
    }


def check(world: World) -> dict[str, int]:
    """
    Compare every answer with an exact search in the space of the version that it names.

    Returns: how many answers are `mixed`, and how many documents in all are `missing` from them or `stale` in them.
    """
    answers = [one for one in world.answers if one.hits is not None]
    contents, queries = world.contents, list(dict.fromkeys(one.user_query for one in answers))
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, content in enumerate(contents):
        places[content.document_id].append(place)
    rows = {text: row for row, text in enumerate(queries)}
    settled = np.array([content.came[1] + LAG_SECONDS for content in contents])
    leaves, left = np.array([content.went for content in contents]).T
    scores = {number: _scores(world.parts, number, queries, contents) for number in {one.version_id for one in answers}}
    found = {"mixed": 0, "missing": 0, "stale": 0}
    for one in answers:
        row, shown = scores[one.version_id][rows[one.user_query]], dict(one.hits or [])
        fits = {
            name: [place for place in places[name] if abs(row[place] - score) < TOLERANCE]
            for name, score in shown.items()
        }
        found["mixed"] += not all(fits.values())
        found["stale"] += sum(
            bool(which) and all(left[place] + LAG_SECONDS < one.began for place in which) for which in fits.values()
        )
        # A page may be short by documents that went a moment ago, whose vectors had a place on it.
        lowest = min(shown.values(), default=-1.0)
        wanted = np.flatnonzero((settled < one.began) & (leaves > one.ended) & (row > lowest + TOLERANCE))
        found["missing"] += sum(contents[place].document_id not in shown for place in wanted)
    return found


def _scores(parts: Parts, version_id: int, queries: Sequence[str], contents: Sequence[Content]) -> Vectors:
    encoder = parts.models.open(history.version(parts.database, version_id).directory)
    documents = encoder.encode_documents([document_text("", content.text) for content in contents])
    return np.asarray(encoder.encode_queries(list(queries)) @ documents.T)


def _longest_gap(answers: Sequence[Answer], began: float, ended: float) -> float:
    """Give the seconds without any answer around a move of the pointer."""
    times = sorted(one.ended for one in answers if began - 1 < one.ended < ended + 2)
    return max((late - early for early, late in pairwise(times)), default=0.0)


def _p99(answers: Sequence[Answer], began: float, ended: float) -> float:
    seconds = [one.ended - one.began for one in answers if began <= one.ended <= ended]
    return float(np.quantile(seconds, 0.99)) if seconds else float("nan")


def _start_replica(home: Path) -> tuple[str, subprocess.Popen[bytes]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "relevanced.daemon",
        "--home",
        str(home),
        "up",
        "--search-only",
        "--port",
        str(port),
    ]
    with (home / f"replica-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return f"http://127.0.0.1:{port}", process


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    with httpx.Client(timeout=60) as client:
        for _ in range(600):
            assert process.poll() is None, "A replica ended; see its log."
            try:
                if client.get(f"{url}/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError("A replica does not get ready.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=1000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="relevanced-") as folder,
        new_world(Path(folder), documents=given.documents, replicas=2) as world,
    ):
        line: Mapping[str, Any] = drive(world, given.queries)
    print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
