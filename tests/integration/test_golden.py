"""Golden labels: loaded, held out, wished for and granted, on a real database."""

import json
from pathlib import Path

import pytest

from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput
from relevanced.daemon.golden import (
    MAX_PAIR_BYTES,
    GoldenJudgment,
    Wish,
    drop_golden,
    golden,
    golden_clusters,
    golden_counts,
    load_golden,
    wish,
    wishes,
)
from relevanced.daemon.golden_files import read_judgments
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document


@pytest.fixture
def documents(database: Database) -> None:
    load_documents(database, [Document(f"d{number}", f"Title {number}", "words") for number in range(5)], silent)


def load(database: Database, *rows: tuple[str, str, float], source="expert"):
    return load_golden(database, [GoldenJudgment(*row) for row in rows], source, silent)


def test_a_set_is_loaded_replaced_and_scaled_by_its_largest_grade(database: Database, documents: None) -> None:
    outcome = load(database, ("Lazy eye", "d1", 2), ("Lazy eye", "d2", 1), ("itch", "gone", 1), ("itch", "d3", 0))
    assert outcome.sentence == "Loaded 4 judgments of 2 queries; 1 are of documents that are not loaded."
    assert golden(database).qrels == {"lazy eye": {"d1": 1.0, "d2": 0.5}, "itch": {"gone": 0.5, "d3": 0.0}}
    load(database, ("Lazy eye", "d2", 0), ("Lazy eye", "d2", 2))
    assert golden(database).qrels["lazy eye"] == {"d1": 1.0, "d2": 1.0}
    assert golden(database).texts["lazy eye"] == "Lazy eye"
    assert golden_clusters(golden(database)) == {"eye laz", "itch"}


def test_shares_of_one_are_taken_as_they_are(database: Database) -> None:
    load(database, ("a", "d1", 0.4))
    assert golden(database).qrels == {"a": {"d1": pytest.approx(0.4)}}


def test_a_query_without_a_relevant_document_asks_nothing(database: Database) -> None:
    load(database, ("a", "d1", 0))
    assert golden(database).qrels == {}


def test_the_experts_word_counts_before_the_models_and_stays_when_that_is_dropped(database: Database) -> None:
    load(database, ("a", "d1", 1.0), source="llm")
    load(database, ("a", "d2", 1.0), source="llm")
    load(database, ("a", "d1", 0.5))
    assert golden(database).qrels["a"] == {"d1": 0.5, "d2": 1.0}
    assert drop_golden(database, "llm").sentence == "Dropped 2 judgments of the language model."
    assert golden(database).qrels["a"] == {"d1": 0.5}
    (count,) = golden_counts(database)
    assert (count["source"], count["judgments"], count["queries"]) == ("expert", 1, 1)


def test_the_experts_word_counts_in_whatever_form_they_wrote_the_query(database: Database) -> None:
    load(database, ("Lazy eye!", "d1", 0.5))
    load(database, ("lazy eye", "d1", 1.0), ("lazy eye", "d2", 1.0), source="llm")
    assert golden(database).qrels == {"lazy eye": {"d1": 0.5, "d2": 1.0}}


def test_of_two_forms_of_a_query_the_one_judged_last_counts(database: Database) -> None:
    load(database, ("Lazy eye", "d1", 0.25))
    load(database, ("lazy eye", "d1", 0.5))
    load(database, ("LAZY EYE", "d1", 0.75))
    assert golden(database).qrels == {"lazy eye": {"d1": 0.75}}


def test_a_query_too_long_for_the_table_is_not_wished_for(database: Database, documents: None) -> None:
    wish(database, [Wish("é" * MAX_PAIR_BYTES, "d1", 1.0), Wish("itch", "d1", 0.5)])
    assert [row["user_query"] for row in wishes(database, 9)] == ["itch"]


def test_a_wish_is_read_by_what_it_would_tell_and_goes_once_it_is_granted(database: Database, documents: None) -> None:
    wish(database, [Wish("itch", "d3", 0.5)])
    wish(database, [Wish("itch", "d1", 0.6), Wish("itch", "d2", 1.0), Wish("rash", "gone", 2.0)])
    assert [(row["document_id"], round(row["gain"], 2), row["title"]) for row in wishes(database, 9)] == [
        ("d2", 1.0, "Title 2"),
        ("d1", 0.6, "Title 1"),
    ]
    outcome = load_golden(database, [GoldenJudgment("itch", "d2", 1, wished=True)], "expert", silent)
    assert outcome.sentence == "Loaded 1 judgments of 1 queries, 1 of them wished for by a gate."
    assert [row["document_id"] for row in wishes(database, 9)] == ["d1"]
    found = golden(database)
    assert (found.qrels, found.granted) == ({}, {"itch": {"d2": 1.0}})
    wish(database, [Wish("itch", "d2", 3.0), Wish("itch", "d1", 0.5)])
    assert [row["document_id"] for row in wishes(database, 9)] == ["d1"], "what is judged is asked no more"


def test_a_golden_set_keeps_what_a_gate_wishes_for_by_chance(database: Database, documents: None) -> None:
    """A gate wishes for what a candidate shows first: without it the set would miss the very documents that count."""
    wish(database, [Wish("itch", "d1", 1.0)])
    outcome = load(database, ("itch", "d1", 1))
    assert outcome.sentence == "Loaded 1 judgments of 1 queries."
    found = golden(database)
    assert (found.qrels, found.granted, golden_clusters(found)) == ({"itch": {"d1": 1.0}}, {}, {"itch"})
    assert wishes(database, 9) == []


@pytest.mark.parametrize("text", ["itch", "Itch?"])
@pytest.mark.parametrize("source", ["expert", "llm"])
@pytest.mark.parametrize("first", [False, True])
def test_what_is_of_the_golden_set_stays_of_it(database: Database, text: str, source, first: bool) -> None:
    """Whoever says it, in whatever form of the query, and whichever of the two comes first."""
    for wished in (first, not first):
        judgment = GoldenJudgment(text if wished else "itch", "d1", 1.0, wished)
        load_golden(database, [judgment], source if wished else "expert", silent)
    found = golden(database)
    assert (found.qrels, found.granted) == ({"itch": {"d1": 1.0}}, {})


def test_no_more_is_wished_for_than_people_can_look_through(
    database: Database, documents: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relevanced.daemon.golden.MOST_WISHES", 3)
    wish(database, [Wish(f"q{number}", "d1", number / 10) for number in range(6)])
    assert [row["user_query"] for row in wishes(database, 9)] == ["q5", "q4", "q3"]


def test_a_broken_line_is_named_and_nothing_is_loaded(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    good = json.dumps({"user_query": "a", "document_id": "d1", "grade": 1})
    for line, complaint in [
        ("{", "judged.jsonl, line 2: .*write a line as"),
        ('{"user_query": " ", "document_id": "d1", "grade": 1}', "line 2: a judgment needs a query"),
        ('{"user_query": "a", "document_id": "d1", "grade": -1}', "the grade -1 is not between 0 and 100"),
    ]:
        file.write_text(f"{good}\n{line}\n")
        with pytest.raises(BadInput, match=complaint):
            load_golden(database, read_judgments(file, "test"), "expert", silent)
    assert golden(database).qrels == {}


def test_a_directory_in_beirs_layout_is_read_by_its_split(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "lazy eye"}\n')
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\n")
    assert list(read_judgments(tmp_path, "dev")) == [
        GoldenJudgment("lazy eye", "d1", 2.0),
        GoldenJudgment("lazy eye", "d2", 0.0),
    ]
    with pytest.raises(BadInput, match=r"has no qrels/test.tsv"):
        list(read_judgments(tmp_path, "test"))
