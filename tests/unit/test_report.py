"""The report has the keys that scripts read, and a page that people can read in 80 columns without colour."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Document
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.page import render
from relevanced.daemon.rehearsal.report import (
    CycleReport,
    Example,
    Measure,
    Pushed,
    Report,
    Rollback,
    mean_rank,
    pick_examples,
    write_report,
)

PROMOTED = CycleReport(
    version=2, verdict="accepted", triplets=1834, pair_precision=0.79, measure=Measure(0.64, 0.61, 0.67)
)
REJECTED = CycleReport(version=3, verdict="inconclusive", triplets=12412, pair_precision=None, measure=None)
NOTHING = CycleReport(version=None, verdict="nothing", triplets=0, pair_precision=None, measure=None)
REPORT = Report(
    name="hpo",
    documents=3000,
    train_queries=1000,
    test_queries=300,
    zero_shot=Measure(0.54, 0.5, 0.57),
    cycles=[PROMOTED, REJECTED, NOTHING],
    oracle=Measure(0.79, 0.77, 0.82),
    live_version=2,
    seconds={"load": 12.2, "train": 183.0, "promote": 0.02},
    rollback=Rollback(0.0042, 1),
    examples=[
        Example(
            "lazy [red]eye",
            [("Ptosis", False), ("Abnormal movement of the eyes, which is longer than the page", False)],
            [("Amblyopia", True), ("Strabismus", False), ("Ptosis [bold]", False)],
        )
    ],
    switches=["Promoted version 2 in place of 1; `relevanced rollback` returns to 1."],
)


def page(report: Report, width: int = 80) -> str:
    console = Console(width=width, no_color=True, file=io.StringIO())
    with console.capture() as captured:
        render(report, console)
    return captured.get()


def test_the_json_has_exactly_the_keys_that_scripts_read(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("an older one")
    write_report(path, REPORT)
    assert json.loads(path.read_text()) == {
        "zero_shot": {"ndcg@10": 0.54, "ci": [0.5, 0.57]},
        "oracle": {"ndcg@10": 0.79, "ci": [0.77, 0.82]},
        "cycles": [
            {
                "version": 2,
                "verdict": "accepted",
                "triplets": 1834,
                "pair_precision": 0.79,
                "ndcg@10": 0.64,
                "ci": [0.61, 0.67],
            },
            {
                "version": 3,
                "verdict": "inconclusive",
                "triplets": 12412,
                "pair_precision": None,
                "ndcg@10": None,
                "ci": None,
            },
            {
                "version": None,
                "verdict": "nothing",
                "triplets": 0,
                "pair_precision": None,
                "ndcg@10": None,
                "ci": None,
            },
        ],
        "live_version": 2,
        "recovered": pytest.approx(0.4),
        "seconds": {"load": 12.2, "train": 183.0, "promote": 0.02},
        "rollback": {"seconds": 0.0042, "version": 1},
        "pushed": None,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_pushed_documents_are_reported_where_there_are_spammers():
    report = replace(REPORT, pushed=Pushed(rank_before=20.0, rank_after=3.25))
    assert report.to_json()["pushed"] == {"rank_before": 20.0, "rank_after": 3.25}
    assert "Pushed documents stand at rank 3.2 for queries near them, at first 20.0." in page(report)


def test_the_mean_rank_counts_from_1_and_what_is_left_out_is_next_after_the_deepest():
    run = {"q": {"a": 0.9, "b": 0.8}}
    assert mean_rank(run, [("q", "a"), ("q", "b"), ("q", "z")]) == 2.0


def test_a_report_that_cannot_be_written_is_bad_input_and_leaves_nothing(tmp_path):
    with pytest.raises(BadInput, match="cannot be written: No such file or directory; name a file"):
        write_report(tmp_path / "nowhere" / "r.json", REPORT)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="cannot be written: Is a directory"):
        write_report(tmp_path / "folder", REPORT)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("changes", "recovered"),
    [
        ({}, 0.4),
        ({"live_version": 1}, 0.0),
        ({"oracle": None}, None),
        ({"oracle": Measure(0.54, 0.5, 0.58)}, None),
        ({"cycles": [replace(PROMOTED, measure=Measure(0.49, 0.45, 0.52))]}, -0.2),
    ],
)
def test_recovered_is_the_live_versions_share_of_the_oracles_gain(changes, recovered):
    assert replace(REPORT, **changes).recovered == (None if recovered is None else pytest.approx(recovered))


def test_the_page_says_what_was_gained_and_what_was_switched():
    text = page(REPORT)
    assert "Version 2 gained 0.100 NDCG@10 over zero-shot: 40% of what the oracle gains" in text
    assert "version 2   live             1,834     79%    0.640  0.610–0.670  ┈┈┈┈━●━" in text
    assert "version 3   inconclusive    12,412" in text
    assert "no version  nothing" in text
    assert "- Promoted version 2 in place of 1" in text
    assert "- The rollback took 0.004 s until version 1 answered." in text
    assert "- All took 3 min 15 s; in seconds: load 12.2, train 183.0, promote 0.0." in text


def test_the_page_shows_examples_side_by_side_and_marks_the_relevant_documents():
    lines = page(REPORT).splitlines()
    start = next(place for place, line in enumerate(lines) if "lazy [red]eye" in line)
    left_and_right = [(line[:40].split(), line[40:].split()) for line in lines[start + 1 : start + 5]]
    assert left_and_right[0] == (["version", "1"], ["version", "2"])
    assert left_and_right[1] == (["1", "Ptosis"], ["1", "✓", "Amblyopia"])
    assert left_and_right[2][1] == ["2", "Strabismus"]
    assert left_and_right[3] == ([], ["3", "Ptosis", "[bold]"])


def test_the_page_says_so_when_nothing_was_gained():
    text = page(replace(REPORT, live_version=1, cycles=[NOTHING], oracle=None, rollback=None, examples=[]))
    assert "No version took the base model's place, so nothing was gained." in text
    assert "zero-shot   live" in text
    lost = replace(REPORT, oracle=None, cycles=[replace(PROMOTED, measure=Measure(0.5, 0.47, 0.53))])
    assert "Version 2 lost 0.040 NDCG@10 over zero-shot." in page(lost)


measures = st.tuples(*[st.floats(0, 1)] * 3).map(sorted).map(lambda three: Measure(three[1], three[0], three[2]))


@given(measures, measures, st.none() | measures, st.integers(80, 200))
def test_the_page_fits_its_width_whatever_was_measured(zero_shot, measure, oracle, width):
    cycles = [replace(PROMOTED, measure=measure), replace(REJECTED, version=11, measure=measure)]
    text = page(replace(REPORT, zero_shot=zero_shot, oracle=oracle, cycles=cycles), width)
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)
    bars = [line for line in text.splitlines() if "●" in line]
    assert len(bars) == (3 if oracle is None else 4)
    assert "…" not in "".join(bars)


def test_examples_are_queries_whose_relevant_document_rose_into_the_top_three_shortest_first():
    queries = {"rose": "a long question", "stayed": "same", "fell": "worse", "short": "eye"}
    dataset = Dataset(
        name="letters",
        documents=[*(Document(name, name.upper(), "") for name in "abcd"), Document("e", "", "text of e")],
        train_queries={},
        test_queries=queries,
        train_qrels={},
        test_qrels={query_id: {"a": 1, "b": 0} for query_id in queries},
    )

    def runs(*rankings: str) -> dict[str, dict[str, float]]:
        scores = ({name: 1 / place for place, name in enumerate(ranking, start=1)} for ranking in rankings)
        return dict(zip(queries, scores, strict=True))

    before = [("B", False), ("C", False), ("D", False)]
    assert pick_examples(dataset, runs("bcda", "abcd", "acdb", "bcde"), runs("cdab", "abcd", "bcda", "ea")) == [
        Example("eye", before, [("text of e", False), ("A", True)]),
        Example("a long question", before, [("C", False), ("D", False), ("A", True)]),
    ]
    assert len(pick_examples(dataset, runs("bcd", "bcd", "bcd", "bcd"), runs("a", "a", "a", "a"))) == 3
