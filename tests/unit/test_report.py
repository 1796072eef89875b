"""The report has the keys that scripts read, and a page that people can read in 80 columns without colour."""

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Document
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.page import render
from relevanced.daemon.rehearsal.plot import HEIGHT, RIGHT, SIDE, TOP, WIDTH, draw, write_plot
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
from relevanced.daemon.rehearsal.truth import Bin
from relevanced.daemon.svg import require_svg

ZERO_SHOT, BETTER = Measure(0.54, 0.5, 0.57), Measure(0.64, 0.61, 0.67)
ORACLE = Measure(0.79, 0.77, 0.82)
BINS = [Bin(0.05, 0.1, 40), *[Bin(None, None, 0)] * 8, Bin(0.95, 0.9, 10)]
PROMOTED = CycleReport(
    version=2,
    verdict="accepted",
    triplets=1834,
    pair_precision=0.79,
    pair_recall=0.41,
    measure=BETTER,
    live_version=2,
    live=BETTER,
    zero_shot=ZERO_SHOT,
    oracle=ORACLE,
    shown_ndcg=0.52,
    unexplored_ndcg=0.53,
    calibration=BINS,
    documents=3000,
    test_queries=300,
)
REJECTED = replace(
    PROMOTED, version=3, verdict="inconclusive", triplets=12412, pair_precision=None, pair_recall=None, measure=None
)
NOTHING = replace(
    REJECTED, version=None, verdict="nothing", triplets=0, shown_ndcg=None, unexplored_ndcg=None, calibration=None
)
REPORT = Report(
    name="hpo",
    documents=3000,
    train_queries=1000,
    test_queries=300,
    zero_shot=ZERO_SHOT,
    cycles=[PROMOTED, REJECTED, NOTHING],
    oracle=ORACLE,
    attainable=Measure(0.74, 0.72, 0.76),
    live_version=2,
    live=BETTER,
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
        "attainable": {"ndcg@10": 0.74, "ci": [0.72, 0.76]},
        "cycles": [
            {
                "version": 2,
                "verdict": "accepted",
                "triplets": 1834,
                "pair_precision": 0.79,
                "pair_recall": 0.41,
                "ndcg@10": 0.64,
                "ci": [0.61, 0.67],
                "recovered": pytest.approx(0.4),
                "live_version": 2,
                "live_ndcg@10": 0.64,
                "live_recovered": pytest.approx(0.4),
                "zero_shot_ndcg@10": 0.54,
                "shown_ndcg@10": 0.52,
                "unexplored_ndcg@10": 0.53,
                "calibration": [
                    {"grade": 0.05, "relevant": 0.1, "pairs": 40},
                    *[{"grade": None, "relevant": None, "pairs": 0}] * 8,
                    {"grade": 0.95, "relevant": 0.9, "pairs": 10},
                ],
                "documents": 3000,
                "test_queries": 300,
            },
            REJECTED.to_json(),
            NOTHING.to_json(),
        ],
        "live_version": 2,
        "recovered": pytest.approx(0.4),
        "seconds": {"load": 12.2, "train": 183.0, "promote": 0.02},
        "rollback": {"seconds": 0.0042, "version": 1},
        "pushed": None,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_what_could_not_be_measured_of_a_cycle_is_null():
    unknown = {name for name, value in replace(NOTHING, oracle=None).to_json().items() if value is None}
    figures = {"ndcg@10", "ci", "recovered", "live_recovered", "pair_precision", "pair_recall"}
    assert unknown == {"version", "shown_ndcg@10", "unexplored_ndcg@10", "calibration", *figures}


def test_pushed_documents_are_reported_where_there_are_spammers():
    report = replace(REPORT, pushed=Pushed(rank_before=20.0, rank_after=3.25))
    assert report.to_json()["pushed"] == {"rank_before": 20.0, "rank_after": 3.25, "attacked": True}
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
        ({"live_version": 1, "live": ZERO_SHOT}, 0.0),
        ({"oracle": None}, None),
        ({"oracle": Measure(0.54, 0.5, 0.58)}, None),
        ({"live": Measure(0.49, 0.45, 0.52)}, -0.2),
    ],
)
def test_recovered_is_the_live_versions_share_of_the_oracles_gain(changes, recovered):
    assert replace(REPORT, **changes).recovered == (None if recovered is None else pytest.approx(recovered))


def test_the_page_says_what_was_gained_and_what_was_switched():
    text = page(REPORT)
    assert "Version 2 gained 0.100 NDCG@10 over zero-shot: 40% of what the oracle gains" in text
    assert "without those held out it gains 80%." in " ".join(text.split())
    assert "version 2  live            1,834    79%    41%   0.640 0.610–0.670   40% ┈┈●━" in text
    assert "version 3  inconclusive   12,412" in text
    assert "no version nothing" in text
    assert "- Promoted version 2 in place of 1" in text
    assert "- The rollback took 0.004 s until version 1 answered." in text
    assert "- All took 3 min 15 s; in seconds: load 12.2, train 183.0, promote 0.0." in text


def test_the_page_says_what_exploring_cost_on_the_mean_of_the_cycles_that_know():
    report = replace(REPORT, cycles=[PROMOTED, NOTHING, replace(PROMOTED, shown_ndcg=0.54, unexplored_ndcg=0.57)])
    assert "- Exploring cost 0.020: people got NDCG@10 0.530, by live alone 0.550.\n" in page(report)
    assert "Exploring" not in page(replace(REPORT, cycles=[NOTHING]))


def test_the_page_says_on_what_each_cycle_was_measured_where_documents_came_later():
    report = replace(REPORT, cycles=[replace(PROMOTED, documents=2000, test_queries=120), PROMOTED])
    assert "documents were all there (120, 300)" in " ".join(page(report).split())
    assert "Documents arrived" not in page(REPORT)


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
    assert "zero-shot  live" in text
    lost = replace(REPORT, oracle=None, live=Measure(0.5, 0.47, 0.53))
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


@given(measures, measures, st.none() | measures)
def test_the_plot_is_well_formed_and_stays_within_its_frame_whatever_was_measured(zero_shot, measure, oracle):
    first = replace(PROMOTED, measure=measure, live=zero_shot, zero_shot=zero_shot, oracle=oracle)
    last = replace(NOTHING, live=measure, zero_shot=zero_shot, oracle=oracle)
    report = replace(REPORT, name="<letters & numbers>", zero_shot=zero_shot, oracle=oracle, cycles=[first, last])
    picture = ElementTree.fromstring(draw(report))
    dots = picture.findall("{*}circle")
    assert all(0 <= float(dot.get("cx")) <= WIDTH and 0 <= float(dot.get("cy")) <= HEIGHT for dot in dots)
    names = [text.text for text in picture.findall("{*}text")]
    assert ("oracle" in names) == (oracle is not None)
    assert "Rehearsal on <letters & numbers>: NDCG@10 by cycle" in names


def test_a_plot_shows_where_grades_and_truth_meet(tmp_path):
    write_plot(tmp_path / "r.svg", replace(REPORT, cycles=[PROMOTED, NOTHING]))
    picture = ElementTree.parse(tmp_path / "r.svg").getroot()
    right = [dot for dot in picture.findall("{*}circle") if float(dot.get("cx")) > RIGHT]
    places = [((float(dot.get("cx")) - RIGHT) / SIDE, 1 - (float(dot.get("cy")) - TOP) / SIDE) for dot in right]
    assert places == [pytest.approx((0.05, 0.1)), pytest.approx((0.95, 0.9))]
    assert float(right[0].get("r")) > float(right[1].get("r")), "four times the pairs"


def test_a_plot_that_cannot_be_drawn_or_written_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"a plot is an SVG; name it r\.svg"):
        require_svg(tmp_path / "r.png")
    with pytest.raises(BadInput, match="cannot be written: No such file or directory"):
        write_plot(tmp_path / "nowhere" / "r.svg", REPORT)


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
