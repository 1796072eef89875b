"""The commands of the golden set, as a person gives them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.golden import GoldenJudgment, Wish, golden, load_golden, wish
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document
from tests.commands import Give, giver
from tests.endpoints import chat


@pytest.fixture
def database(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Database]:
    url = new_database_url()
    (tmp_path / "relevanced.toml").write_text(f'database_url = "{url}"\n')
    database = Database.open(url, tmp_path)
    load_documents(database, [Document("d1", "Amblyopia", "Poor sight."), Document("d2", "", "A lid.")], silent)
    yield database
    database.close()


@pytest.fixture
def give(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Give:
    return giver(tmp_path, capsys, "golden")


@pytest.fixture
def judged(tmp_path: Path) -> str:
    file = tmp_path / "judged.jsonl"
    lines = [
        {"user_query": "lazy eye", "document_id": "d1", "grade": 3.0},
        {"user_query": "lazy eye", "document_id": "away", "grade": 1.0},
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_is_loaded_is_listed_and_written_and_dropped(give, judged, tmp_path):
    assert give("list") == (0, "There are no golden judgments; `relevanced golden load PATH` brings some.\n", "")
    status, said, _ = give("load", judged, "--json")
    assert (status, json.loads(said)["judgments"], json.loads(said)["without_document"]) == (0, 2, 1)
    (source,) = json.loads(give("list", "--json")[1])
    assert (source["source"], source["judgments"], source["queries"]) == ("expert", 2, 1)
    again = tmp_path / "again.jsonl"
    assert give("export", str(again)) == (0, f"Wrote 2 judgments to {again}.\n", "")
    assert [line["grade"] for line in lines_of(again)] == [3.0, 1.0]
    assert give("drop", "llm")[1] == "Dropped 0 judgments of the language model.\n"
    assert give("drop", "expert", "--yes")[1] == "Dropped 2 judgments of experts.\n"
    status, _, complaint = give("export", str(again))
    assert (status, "There are no judgments by expert to write" in complaint, len(lines_of(again))) == (2, True, 2)


def test_nothing_is_dropped_without_a_word(give, judged):
    give("load", judged)
    status, _, complaint = give("drop", "expert")  # there is nobody to ask
    assert (status != 0, "Remove 2 judgments for good?" in complaint) == (True, True)
    assert json.loads(give("list", "--json")[1])[0]["judgments"] == 2


def test_a_broken_file_is_refused_in_one_sentence(give, tmp_path):
    (tmp_path / "broken.jsonl").write_text('{"user_query": "eye", "document_id": "d1"}\n')
    status, _, complaint = give("load", str(tmp_path / "broken.jsonl"))
    assert (status, complaint.count("\n")) == (2, 1)
    assert "broken.jsonl, line 1: Object missing required field `grade`" in complaint


def test_what_is_wanted_can_be_filled_in_and_loaded(give, database, tmp_path):
    assert give("wanted")[1] == "No gate wishes for a judgment.\n"
    wish(database, [Wish("lazy eye", "d1", 0.5), Wish("lid", "d2", 0.25)])
    status, said, _ = give("wanted")
    assert (status, "Amblyopia" in said, "A lid." in said) == (0, True, True)
    assert [row["document_id"] for row in json.loads(give("wanted", "--limit", "1", "--json")[1])] == ["d1"]
    as_json = json.loads(give("wanted", "--limit", "1", "--json")[1])
    assert [(row["grade"], row["wished"]) for row in as_json] == [(None, True)], "as in the file, to be filled in"
    file = tmp_path / "judge.jsonl"
    assert give("wanted", "--to", str(file)) == (0, f"Wrote 2 pairs to {file}.\n", "")
    assert lines_of(file)[0]["text"] == "Poor sight."
    file.write_text(file.read_text().replace('"grade":null', '"grade":1', 1))
    assert give("load", str(file))[1] == "Loaded 1 judgments of 1 queries, 1 of them wished for by a gate.\n"
    assert [row["document_id"] for row in json.loads(give("wanted", "--json")[1])] == ["d2"]


def test_what_is_written_and_loaded_again_stays_what_it_was(give, database, judged, tmp_path):
    wish(database, [Wish("lid", "d2", 0.25)])
    give("load", judged)
    load_golden(database, [GoldenJudgment("lid", "d2", 1, wished=True)], "llm", silent)
    before = golden(database)
    assert (before.qrels.keys(), before.granted.keys()) == ({"lazy eye"}, {"lid"})
    for source in ("expert", "llm"):
        file = str(tmp_path / f"{source}.jsonl")
        give("export", file, "--source", source)
        give("drop", source, "--yes")
        give("load", file, "--source", source)
    assert golden(database) == before
    assert [row["source"] for row in json.loads(give("list", "--json")[1])] == ["expert", "llm"]


def test_a_language_model_judges_what_is_wanted_and_what_it_leaves_unclear_stays_wanted(give, database, tmp_path):
    wish(database, [Wish("lazy eye", "d1", 0.5), Wish("lid", "d2", 0.25)])
    status, _, complaint = give("judge")
    assert (status, "No language model is set up" in complaint) == (2, True)

    def answer(body: dict[str, Any]) -> tuple[int, str]:
        return 200, '{"grade": 3}' if "Amblyopia" in body["messages"][1]["content"] else "I would say 2."

    with chat(answer) as endpoint:
        settings = tmp_path / "relevanced.toml"
        settings.write_text(f'{settings.read_text()}\n[llm]\nmodel = "grader"\nbase_url = "{endpoint.url}/v1"\n')
        status, said, _ = give("judge")
    assert (status, said) == (
        0,
        "The language model judged 1 of 2 pairs. 1 got no clear answer or a refusal, and stay wished for.\n",
    )
    assert golden(database).granted == {"lazy eye": {"d1": 1.0}}
    assert [row["document_id"] for row in json.loads(give("wanted", "--json")[1])] == ["d2"]


def test_what_the_language_model_judges_is_no_golden_set_though_a_gate_ends_meanwhile(give, database, tmp_path):
    wish(database, [Wish("lazy eye", "d1", 0.5)])

    def answer(_: Any) -> tuple[int, str]:
        wish(database, [Wish("lid", "d2", 0.25)])  # as the next gate does, in place of all wishes before
        return 200, '{"grade": 3}'

    with chat(answer) as endpoint:
        settings = tmp_path / "relevanced.toml"
        settings.write_text(f'{settings.read_text()}\n[llm]\nmodel = "grader"\nbase_url = "{endpoint.url}/v1"\n')
        give("judge")
    found = golden(database)
    assert (found.qrels, found.granted) == ({}, {"lazy eye": {"d1": 1.0}})
    assert [row["document_id"] for row in json.loads(give("wanted", "--json")[1])] == ["d2"]


def test_a_language_model_is_asked_nothing_where_nothing_is_wanted(give, tmp_path):
    with chat(lambda _: (200, '{"grade": 3}')) as endpoint:
        settings = tmp_path / "relevanced.toml"
        settings.write_text(f'{settings.read_text()}\n[llm]\nmodel = "grader"\nbase_url = "{endpoint.url}/v1"\n')
        assert give("judge")[:2] == (0, "No gate wishes for a judgment.\n")
    assert endpoint.asked == []


def test_an_endpoint_that_fails_half_way_takes_nothing_back(give, database, tmp_path):
    wish(database, [Wish("lazy eye", "d1", 0.5), Wish("lid", "d2", 0.25)])
    answers = iter([(200, '{"grade": 2}'), (401, {"error": {"message": "expired"}})])
    with chat(lambda _: next(answers)) as endpoint:
        settings = tmp_path / "relevanced.toml"
        more = f'[llm]\nmodel = "grader"\nconcurrency = 1\nbase_url = "{endpoint.url}/v1"\n'
        settings.write_text(f"{settings.read_text()}\n{more}")
        status, _, complaint = give("judge")
    assert (status, "refused with 401" in complaint) == (2, True)
    assert golden(database).granted == {"lazy eye": {"d1": pytest.approx(2 / 3)}}
