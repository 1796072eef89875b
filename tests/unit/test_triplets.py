import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.near_queries import near_queries
from relevanced.daemon.triplets import SCHEMA, TripletPolicy, documents_beside_positives, mine_triplets

POLICY = TripletPolicy()


def judgments(*rows: tuple[str, str, float, float, float]) -> pa.Table:
    """query_key, document_id, grade, weight, expected_clicks."""
    names = ("query_key", "document_id", "grade", "weight", "expected_clicks")
    columns = list(zip(*rows, strict=True)) or [()] * 5
    kinds = (pa.string(), pa.string(), pa.float64(), pa.float64(), pa.float64())
    table = pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)})
    return table.append_column("source", pa.array(["clicks"] * len(table), pa.string()))


def run(scores: dict[str, float], query_key: str = "q") -> pa.Table:
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return pa.table(
        {
            "query_key": pa.array([query_key] * len(ranked), pa.string()),
            "document_id": pa.array([name for name, _ in ranked], pa.string()),
            "score": pa.array([score for _, score in ranked], pa.float32()),
        }
    )


def mine(judged: pa.Table, scores: dict[str, float], policy: TripletPolicy = POLICY) -> list[dict]:
    table = mine_triplets(judged, run(scores), {"q": "the query"}, policy)
    assert table.schema == SCHEMA
    return table.to_pylist()


GOOD = ("q", "good", 0.9, 0.8, 3.0)


def test_a_triplet_says_what_was_asked_found_and_missed():
    [triplet] = mine(judgments(GOOD), {"good": 0.8, "miss": 0.7})
    assert len(triplet.pop("triplet_id")) == 32
    assert triplet == {
        "query_key": "q",
        "anchor": "the query",
        "positive_id": "good",
        "negative_ids": ["miss"],
        "grade": 0.9,
        "weight": pytest.approx(0.72),
        "source": "clicks",
        "negative_source": "near_miss",
        "positive_rank": 1,
        "positive_score": pytest.approx(0.8),
        "near_miss_bar": pytest.approx(0.76),
        "negative_evidence": [{"kind": "near_miss", "rank": 2, "score": pytest.approx(0.7)}],
    }


def test_what_scores_within_5_percent_of_the_positive_may_be_relevant_too():
    [triplet] = mine(judgments(GOOD), {"above": 0.9, "good": 0.8, "close": 0.7601, "below": 0.7599, "far": 0.2})
    assert triplet["negative_ids"] == ["below", "far"]


@pytest.mark.parametrize(("positive", "expected"), [(-0.2, ["lower"]), (0.0, ["just", "lower"])])
def test_the_margin_lies_below_the_positive_even_where_scores_are_negative(positive, expected):
    [triplet] = mine(judgments(GOOD), {"good": positive, "just": -0.205, "lower": -0.3})
    assert triplet["negative_ids"] == expected


def test_a_positive_outside_the_run_has_no_near_misses_for_all_of_the_run_scores_above_it():
    [triplet] = mine(judgments(GOOD, ("q", "skipped", 0.01, 0.9, 4.0)), {"a": 0.9, "skipped": 0.8})
    assert triplet["negative_ids"] == ["skipped"]
    [triplet] = mine(judgments(GOOD), {"a": 0.9, "b": 0.8})
    assert (triplet["negative_ids"], triplet["negative_source"]) == ([], "in_batch")


def test_documents_examined_and_skipped_come_before_near_misses():
    judged = judgments(GOOD, ("q", "skipped", 0.02, 0.9, 2.5), ("q", "unseen", 0.02, 0.1, 0.4))
    [triplet] = mine(judged, {"good": 0.8, "miss": 0.7, "unseen": 0.6, "skipped": 0.5}, TripletPolicy(negatives=3))
    assert triplet["negative_ids"] == ["skipped", "miss", "unseen"]
    assert triplet["negative_source"] == "near_miss+skipped"
    assert [(one["kind"], one["rank"]) for one in triplet["negative_evidence"]] == [
        ("skipped", 4),
        ("near_miss", 2),
        ("near_miss", 3),
    ]


def test_a_document_that_may_well_be_relevant_is_no_negative():
    judged = judgments(GOOD, ("q", "perhaps", 0.3, 0.9, 5.0))
    [triplet] = mine(judged, {"good": 0.8, "perhaps": 0.5})
    assert triplet["negative_ids"] == []


@pytest.mark.parametrize(
    ("near", "negatives"), [("q rash", []), ("q rash child", []), ("q cancer", ["miss", "skipped"])]
)
def test_what_may_answer_a_query_of_nearly_the_same_words_is_no_negative(near, negatives):
    """Neither where live ranks it, nor where people examined and skipped it."""
    judged = judgments(
        ("rash q", "good", 0.9, 0.8, 3.0),
        ("rash q", "skipped", 0.02, 0.9, 2.5),
        (near, "miss", 0.11, 0.8, 3.0),
        (near, "skipped", 0.3, 0.8, 3.0),
    )
    ranked = run({"good": 0.8, "miss": 0.7, "skipped": 0.5}, "rash q")
    [triplet] = mine_triplets(judged, ranked, {"rash q": "rash q"}, POLICY).to_pylist()
    assert sorted(triplet["negative_ids"]) == negatives


def test_a_document_with_the_text_of_a_positive_is_no_negative():
    judged = judgments(GOOD, ("q", "skipped", 0.02, 0.9, 2.5))
    ranked = run({"good": 0.8, "miss": 0.7, "copy": 0.6, "skipped": 0.5})
    texts = {"good": "a", "miss": "b", "copy": "a", "skipped": "a"}
    [triplet] = mine_triplets(judged, ranked, {"q": "the query"}, POLICY, texts).to_pylist()
    assert triplet["negative_ids"] == ["miss"]
    assert documents_beside_positives(judged, ranked, POLICY) == set(texts)
    assert documents_beside_positives(judgments(("q", "skipped", 0.02, 0.9, 2.5)), ranked, POLICY) == set()


def test_a_query_without_a_positive_or_without_an_anchor_teaches_nothing():
    assert mine(judgments(("q", "d", 0.4, 1.0, 9.0)), {"d": 0.9}) == []
    assert mine(judgments(("unnamed", "d", 0.9, 1.0, 9.0)), {"d": 0.9}) == []
    assert mine(judgments(), {}) == []


def test_a_triplet_keeps_its_id_while_it_says_the_same():
    first, again = (mine(judgments(GOOD), {"good": 0.8, "miss": score})[0] for score in (0.7, 0.6))
    other = mine(judgments(GOOD), {"good": 0.8, "else": 0.7})[0]
    assert first["triplet_id"] == again["triplet_id"] != other["triplet_id"]


documents = [f"d{number}" for number in range(8)]
unit = st.floats(0, 1)


@given(
    st.dictionaries(st.sampled_from(documents), st.tuples(unit, unit, st.floats(0, 20)), max_size=8),
    st.dictionaries(st.sampled_from(documents), st.floats(-1, 1, width=32), max_size=8),
    st.builds(
        TripletPolicy,
        min_grade=st.floats(0.05, 1),
        max_negative_grade=st.floats(0, 0.9),
        negatives=st.integers(0, 4),
    ),
)
def test_no_negative_is_a_positive_or_notable_or_too_near_whatever_the_judgments(judged, scores, policy):
    triplets = mine(judgments(*(("q", name, *figures) for name, figures in judged.items())), scores, policy)
    grades = {name: figures[0] for name, figures in judged.items()}
    positives = {name for name, grade in grades.items() if grade >= policy.min_grade}
    assert sorted(triplet["positive_id"] for triplet in triplets) == sorted(positives)
    assert len({triplet["triplet_id"] for triplet in triplets}) == len(triplets)
    for triplet in triplets:
        assert len(set(triplet["negative_ids"])) == len(triplet["negative_ids"]) <= policy.negatives
        assert 0 <= triplet["weight"] <= triplet["grade"] <= 1
        for name in triplet["negative_ids"]:
            assert name not in positives
            assert grades.get(name, 0) <= policy.max_negative_grade
            if judged.get(name, (0, 0, 0))[2] < policy.min_expected_clicks:
                assert scores[name] < scores[triplet["positive_id"]]


keys = st.sampled_from(["skin rash", "rash of the skin", "skin rash child", "skin cancer", "fever"])


@given(
    st.dictionaries(st.tuples(keys, st.sampled_from(documents)), unit, max_size=20),
    st.dictionaries(st.sampled_from(documents), st.sampled_from("abc")),
)
def test_no_negative_answers_a_near_query_or_repeats_a_positive_whatever_the_judgments(grades, texts):
    judged = judgments(*((key, name, grade, 1.0, 3.0) for (key, name), grade in grades.items()))
    anchors = {key: key for key, _ in grades}
    ranked = run({name: -float(place) for place, name in enumerate(documents)}, "fever")
    near = near_queries(anchors, POLICY.near_similarity)
    for triplet in mine_triplets(judged, ranked, anchors, POLICY, texts).to_pylist():
        key = triplet["query_key"]
        for name in triplet["negative_ids"]:
            together = [grades.get((other, name), 0.0) for other in (key, *near.get(key, []))]
            assert max(together) <= POLICY.max_negative_grade
            assert texts.get(name, name) != texts.get(triplet["positive_id"])
