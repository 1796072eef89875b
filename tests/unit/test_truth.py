"""What the labels say of what was mined, and of what was shown."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.records import Document
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.shown import SAMPLE, Exposure, sample
from relevanced.daemon.rehearsal.truth import Bin, calibration, pair_precision, pair_recall
from tests.unit.test_searchers import searchers

HOLDOUT = HoldoutPolicy()
DATASET = Dataset(
    name="numbers",
    documents=[Document(f"d{number}", "", "") for number in range(50)],
    train_queries={f"t{number}": f"Find number {number}" for number in range(50)},
    test_queries={"held": "never typed"},
    train_qrels={f"t{number}": {f"d{number}": 1, "judged": 0} for number in range(50)},
    test_qrels={"held": {"d0": 1}},
)
KEYS = [query_key(text) for text in DATASET.train_queries.values()]
TRAINING = [number for number, key in enumerate(KEYS) if not is_held_out(cluster_key(key), HOLDOUT)]
HELD_OUT = sorted(set(range(50)) - set(TRAINING))


def mined(tmp_path, *pairs: tuple[int, str]):
    table = {"query_key": [KEYS[query] for query, _ in pairs], "positive_id": [document for _, document in pairs]}
    pq.write_table(pa.table(table), tmp_path / "triplets.parquet")
    return tmp_path / "triplets.parquet"


def test_recall_counts_each_true_pair_outside_the_holdout_once(tmp_path):
    first, second, third = TRAINING[:3]
    path = mined(tmp_path, (first, f"d{first}"), (first, f"d{first}"), (second, f"d{second}"), (third, "judged"))
    assert pair_recall(path, DATASET, HOLDOUT) == pytest.approx(2 / len(TRAINING))
    assert pair_precision(path, DATASET) == pytest.approx(2 / 3)


def test_held_out_queries_are_not_asked_of_the_miner(tmp_path):
    assert HELD_OUT
    everything = mined(tmp_path, *((number, f"d{number}") for number in TRAINING))
    assert pair_recall(everything, DATASET, HOLDOUT) == 1
    assert pair_recall(tmp_path / "none.parquet", DATASET, HOLDOUT) == 0
    assert pair_precision(tmp_path / "none.parquet", DATASET) is None


def test_calibration_sets_the_mean_grade_of_each_tenth_beside_the_share_that_is_relevant(tmp_path):
    rows = [
        (0, "d0", 0.92),
        (1, "d1", 1.0),
        (2, "judged", 0.96),
        (3, "d4", 0.11),
        (HELD_OUT[0], f"d{HELD_OUT[0]}", 0.19),
    ]
    columns = {
        "query_key": [KEYS[query] for query, _, _ in rows],
        "document_id": [document for _, document, _ in rows],
        "grade": [grade for _, _, grade in rows],
    }
    pq.write_table(pa.table(columns), tmp_path / "judgments.parquet")
    bins = calibration(tmp_path / "judgments.parquet", DATASET)
    assert len(bins) == 10
    assert bins[9] == Bin(pytest.approx(0.96), pytest.approx(2 / 3), 3)
    assert bins[1] == Bin(pytest.approx(0.15), 0.5, 2)
    assert {bins[place] for place in (0, *range(2, 9))} == {Bin(None, None, 0)}
    assert calibration(tmp_path / "none.parquet", DATASET) is None


def test_what_live_alone_would_have_shown_is_the_difference_on_the_sample_at_the_level_of_all():
    first = Exposure(searches=3, shown=1.5, sampled=1, sampled_shown=0.25, sampled_alone=0.5)
    both = first.plus(Exposure(searches=1, shown=0.5, sampled=1, sampled_shown=0.25, sampled_alone=0.25))
    assert both.shown_ndcg == 0.5
    assert both.unexplored_ndcg == pytest.approx(0.5 + 0.25 / 2)
    assert Exposure().shown_ndcg is Exposure().unexplored_ndcg is None


def test_the_sample_is_of_honest_sessions_and_the_same_again_after_a_stop():
    sessions = list(searchers(spam=0.2, mean_sessions=80).sessions(1))
    drawn = sample(sessions, 1, 1)
    assert len(drawn) == SAMPLE < len(sessions)
    assert drawn == sample(sessions, 1, 1) != sample(sessions, 2, 1)
    assert drawn < {session.session_id for session in sessions if session.pushed is None}
