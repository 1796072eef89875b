"""The commands as a person or a script gives them, in one state directory that lives through the whole file."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.mined import write_cycle
from tests.tiny import make_tiny_model

CORPUS = [
    {"_id": "d1", "title": "Tinnitus", "text": "Hearing noises in the absence of an external source."},
    {"_id": "d2", "title": "Macrocephaly", "text": "A head that is larger than usual."},
    {"_id": "d3", "title": "Pruritus", "text": "An itch that makes one want to scratch."},
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    file.write_text("".join(json.dumps(document) + "\n" for document in CORPUS))
    return file


def test_before_any_document_each_command_says_what_to_do_first(give):
    assert give("init")[0] == 0
    status, said, _ = give("status")
    assert (status, "`relevanced documents load FILE` makes the first" in said) == (0, True)
    for command in (["search", "x"], ["promote", "1"], ["rollback"], ["verify", "1"]):
        status, _, complaint = give(*command)
        assert status == 2, command
        assert complaint.count("\n") == 1, f"one sentence: {complaint}"
        assert "Traceback" not in complaint


def test_a_malformed_line_is_named_and_nothing_is_loaded(give, tmp_path):
    broken = tmp_path / "corpus.jsonl"
    broken.write_text('{"_id": "d1", "title": "a", "text": "b"}\n{"_id": \n')
    status, _, complaint = give("documents", "load", str(broken))
    assert status == 2
    assert "corpus.jsonl, line 2" in complaint
    assert json.loads(give("versions", "--json")[1])["versions"] == []


def test_the_first_load_makes_a_version_that_answers(give, corpus):
    status, said, _ = give("documents", "load", str(corpus))
    assert status == 0
    assert "Promoted version 1, the first to be live." in said
    status, said, _ = give("search", "ringing in the ears", "--json")
    answer = json.loads(said)
    assert (status, answer["version_id"], answer["hits"][0]["document_id"]) == (0, 1, "d1")


def test_a_changed_document_goes_through_the_outbox(give, corpus):
    changed = corpus.with_name("changed.jsonl")
    changed.write_text(json.dumps({"_id": "d2", "title": "Ringing in the ears", "text": ""}) + "\n")
    status, said, _ = give("documents", "load", str(changed), "--json")
    assert (status, json.loads(said)["changed_documents"]) == (0, 1)
    assert json.loads(give("search", "ringing in the ears", "--json")[1])["hits"][0]["document_id"] == "d2"


def test_deleted_documents_are_not_found(give, corpus):
    more = corpus.with_name("more.jsonl")
    more.write_text("".join(json.dumps({"_id": f"x{n}", "title": "Zebra", "text": str(n)}) + "\n" for n in range(3)))
    assert give("documents", "load", str(more))[0] == 0
    ids = corpus.with_name("ids")
    ids.write_text("x0\n\nx1\n")
    status, said, _ = give("documents", "delete", "x2", "nothing", "--file", str(ids), "--json")
    numbers = json.loads(said)
    assert (status, numbers["deleted"], numbers["unknown"], numbers["changed_documents"]) == (0, 3, 1, 3)
    hits = json.loads(give("search", "zebra", "--json")[1])["hits"]
    assert not {hit["document_id"] for hit in hits} & {"x0", "x1", "x2"}


def test_searches_become_rows_and_status_counts_them(give):
    assert give("consume", "--until-empty")[0] == 0
    status = json.loads(give("status", "--json")[1])
    assert status["live_version"] == 1
    assert status["log"]["queries"] == 3


def test_a_cycle_without_clicks_ends_by_saying_so(give):
    status, said, _ = give("cycle", "run")
    assert (status, said.strip()) == (0, "Nothing was clicked yet, so there is nothing to learn from.")


def test_a_triplet_says_why_it_is_one_and_nothing_of_what_few_people_typed(give, home):
    status, _, complaint = give("triplets", "list")
    assert (status, complaint) == (2, "No cycle has mined triplets yet; `relevanced cycle run` begins one.\n")
    write_cycle(home / "cycles" / "90")
    try:
        listed = json.loads(give("triplets", "list", "--query", "itchy", "--json")[1])
        assert (listed["cycle"], listed["triplets_in_all"]) == (90, 1)
        triplet_id = listed["triplets"][0]["triplet_id"]
        shown = json.loads(give("triplets", "show", triplet_id[:8], "--json")[1])
        assert shown["positive"]["expected_clicks"] == pytest.approx(2.1)
        assert [one["kind"] for one in shown["negatives"]] == ["skipped", "near_miss"]
        status, said, _ = give("triplets", "show", triplet_id)
        assert (status, f"Triplet {triplet_id} of cycle 90" in said, "Positive good" in said) == (0, True, True)
        status, said, _ = give("triplets", "list")
        assert (status, "Cycle 90 has 3 triplets." in said, "nym" in said) == (0, True, False)
    finally:
        shutil.rmtree(home / "cycles" / "90")


def test_a_version_and_a_model_are_compared_on_held_out_queries_and_on_labels(give, home, tmp_path):
    other = str(make_tiny_model(tmp_path / "tiny"))
    assert give("compare", "1", "1")[:2] == (2, "")
    status, _, complaint = give("compare", "1", other)
    assert (status, complaint[:34]) == (2, "No cycle has held out queries yet;")
    folder = home / "cycles" / "91"
    folder.mkdir(parents=True)
    judged = {"document_id": "d2", "grade": 0.9, "weight": 0.9, "inclusion": 1.0, "held_out_by": "hash"}
    asked = [("a large head", 3), ("a hum that nobody else hears", 2)]
    rows = [{"query_key": text, "user_query": text, "actors": actors, **judged} for text, actors in asked]
    pq.write_table(pa.Table.from_pylist(rows), folder / "holdout.parquet")
    page, plot = tmp_path / "page.html", tmp_path / "plot.svg"
    try:
        found = json.loads(give("compare", other, "1", "--json")[1])
        status, said, _ = give("compare", other, "1", "--html", str(page), "--plot", str(plot))
        unknown = give("compare", "1", "7")
        other_cycle = give("compare", "1", other, "--cycle", "3")
        both = give("compare", "1", other, "--cycle", "91", "--qrels", str(tmp_path))
        astray = give("compare", "1", other, "--html", str(tmp_path / "nowhere" / "page.html"))
    finally:
        shutil.rmtree(folder)
    assert (found["first"], found["second"]) == ("model tiny", "version 1")
    assert {one["user_query"] for one in found["queries"]} == {None, "a large head"}
    assert sum(found["better_worse_alike"]) == len(found["queries"]) == 2
    assert found["sentences"][1] in said
    assert (status, said.endswith(f"Wrote {page}.\n\nWrote {plot}.\n")) == (0, True)
    assert "<title>Version 1 against model tiny</title>" in page.read_text()
    assert plot.read_text().startswith("<svg ")
    assert (unknown[0], "There is no version 7" in unknown[2]) == (2, True)
    assert other_cycle[2] == "Cycle 3 holds out no queries; there are those of 91.\n"
    assert both[2] == "--cycle and --qrels both say which queries are asked; give one of the two.\n"
    assert (astray[0], "there is no folder" in astray[2]) == (2, True)

    (tmp_path / "labels" / "qrels").mkdir(parents=True)
    (tmp_path / "labels" / "queries.jsonl").write_text('{"_id": "q1", "text": "a large head"}\n')
    (tmp_path / "labels" / "qrels" / "test.tsv").write_text("q1\td2\t1\n")
    status, said, _ = give("compare", "1", other, "--qrels", str(tmp_path / "labels"))
    assert (status, "on 1 labelled queries of labels" in said, "Nothing is known to be irrelevant" in said) == (
        0,
        True,
        True,
    )


def test_a_version_that_no_one_was_before_cannot_be_rolled_back(give):
    status, _, complaint = give("rollback")
    assert (status, "no version was live before it" in complaint) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["promote", "9"], "There is no version 9"),
        (["search"], "Missing parameter: text"),
        (["search", ""], "empty"),
        (["search", "x", "-k", "0"], "k"),
        (["--config", "nowhere.toml", "status"], "nowhere.toml does not exist"),
        (["documents", "load", "nowhere.jsonl"], "nowhere.jsonl"),
        (["documents", "delete"], "Name the documents to delete"),
        (["documents", "delete", "--file", "nowhere"], "nowhere cannot be read"),
        (["rehearse", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_status_2(give, arguments, says):
    status, _, complaint = give(*arguments)
    assert (status, says in complaint, "Traceback" in complaint) == (2, True, False), complaint
    assert complaint.count("\n") == 1


def test_a_setting_that_is_none_is_named_with_the_nearest(home, give):
    (home / "relevanced.toml").write_text("[gate]\nmin_queris = 3\n")
    try:
        status, _, complaint = give("status")
    finally:
        (home / "relevanced.toml").unlink()
    assert status == 2
    assert complaint == "relevanced.toml, [gate]: min_queris is not a setting; did you mean min_queries?\n"


def test_a_database_that_does_not_answer_is_named_without_its_password(give, monkeypatch):
    monkeypatch.setenv("RELEVANCED_DATABASE_URL", "postgresql://me:hush@127.0.0.1:9/search")
    status, _, complaint = give("status")
    assert (status, complaint.count("\n")) == (75, 1)
    assert "127.0.0.1" in complaint
    assert "hush" not in complaint


def test_a_broker_that_does_not_answer_is_named(give, monkeypatch):
    monkeypatch.setenv("RELEVANCED_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    status, _, complaint = give("consume", "--until-empty")
    assert (status, complaint.count("\n")) == (75, 1)
    assert "127.0.0.1:9" in complaint


def test_a_port_in_use_is_named(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "relevanced.daemon", "--home", str(home), "up", "--port", port],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, f"Port {port} on 127.0.0.1 is in use" in done.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_answers_takes_clicks_and_ends_cleanly(home, number, give):
    """An answer's click, handed in over HTTP, is in the log store when the daemon has ended."""
    clicks = json.loads(give("status", "--json")[1])["log"]["clicks"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "relevanced.daemon", "--home", str(home), "up", "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE) as process:
        try:
            answer = json.loads(_ask(process, f"http://127.0.0.1:{port}/v1/search?q=itch"))
            click = {
                "action_name": "click",
                "query_id": answer["query_id"],
                "timestamp": "2026-01-31T09:12:45.120Z",
                "event_attributes": {"object": {"object_id": answer["hits"][0]["document_id"]}},
            }
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/events",
                json.dumps(click).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request) as accepted:
                assert accepted.status == 202
            process.send_signal(number)
            _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, complaint
    assert b"Traceback" not in complaint
    give("consume", "--until-empty")
    assert json.loads(give("status", "--json")[1])["log"]["clicks"] == clicks + 1


def test_a_producer_that_sends_what_nobody_can_read_stops_its_consumer_and_not_the_search(home):
    (home / "spool" / "broken.jsonl").write_bytes(b"broken\n" * 20)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "relevanced.daemon", "--home", str(home), "up", "--port", str(port)]
    settings = {"HF_HUB_OFFLINE": "1", "RELEVANCED_INGEST__BAD_SHARE_OVER": "10"}
    # The broker that is away is waited for, and nothing else waits with it.
    settings["RELEVANCED_KAFKA__BOOTSTRAP_SERVERS"] = "127.0.0.1:9"
    with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE) as process:
        try:
            while not (halted := json.loads(_ask(process, f"http://127.0.0.1:{port}/healthz"))["halted_consumers"]):
                time.sleep(0.1)
            assert halted["spool"].startswith("20 of the last 20 records from spool cannot be read")
            assert json.loads(_ask(process, f"http://127.0.0.1:{port}/v1/search?q=itch"))["hits"]
            process.send_signal(signal.SIGTERM)
            _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, complaint
    assert b"Our own records go to the spool meanwhile." in complaint
    (home / "spool" / "broken.jsonl").unlink()


def _ask(process: subprocess.Popen[bytes], url: str) -> bytes:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
