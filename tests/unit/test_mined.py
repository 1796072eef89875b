"""Why a triplet is what it is: told from the files that a cycle leaves, which the parts themselves write here."""

import json
from pathlib import Path

import numpy as np
import pytest

from relevanced.daemon.click_model_file import from_json, to_json
from relevanced.daemon.errors import BadInput
from relevanced.daemon.mined import Mined, mined_by
from tests.mined import MODEL, write_cycle


@pytest.fixture
def cycles(tmp_path: Path) -> Path:
    write_cycle(tmp_path / "4")
    return tmp_path


@pytest.fixture
def mined(cycles: Path) -> Mined:
    return mined_by(cycles, None)


def id_of(mined: Mined, user_query: str | None) -> str:
    return next(row["triplet_id"] for row in mined.listed(None, 9, 3)[1] if row["user_query"] == user_query)


def test_the_positive_is_told_from_what_was_done_and_where(mined):
    reason = mined.reason(id_of(mined, "Itchy Skin")[:12], k=3)
    positive = reason.positive
    assert (positive.document_id, positive.rank, positive.prior) == ("good", 1, 0.4)
    assert [(one["response"], one["actors"], one["lift"]) for one in positive.responses] == [
        ("click", 3, 5.5),
        ("purchase", 1, 40.0),
    ]
    assert [tuple(place.values()) for place in positive.places] == [
        ("web", False, 1, 1.0, 1.0, 1.0),
        ("web", True, 1, 0.5, 2.0, 0.0),
        ("app", False, 2, 0.5, 3.0, 3.0),
    ]
    assert positive.expected_clicks == pytest.approx(0.6 * (1 + 2 * 0.5 + 3 * 0.5))
    assert positive.siblings == pytest.approx(0.5 * np.log(5.5))
    said = " ".join(positive.sentences(reason.near_miss_bar))
    for words in ("click by 3 (lift 5.5), purchase by 1 (lift 40)", "Shown to 6 and chosen by 4", "chosen by 2.10 at"):
        assert words in said
    assert "differ in form alone add +0.85" in said


def test_each_negative_is_told_as_skipped_or_as_a_near_miss(mined):
    reason = mined.reason(id_of(mined, "Itchy Skin"), k=3)
    skipped, miss = reason.negatives
    assert (skipped.document_id, skipped.kind, skipped.shown) == ("skipped", "skipped", 9)
    assert "chosen by 0; a relevant document would have been chosen by 5.40" in " ".join(skipped.sentences(0.76))
    assert (miss.document_id, miss.kind, miss.rank, miss.grade) == ("miss", "near_miss", 3, None)
    said = " ".join(miss.sentences(reason.near_miss_bar))
    assert "ranks it 3 with a score of 0.700, below the 0.760" in said
    assert "Nobody was shown it" in said


def test_the_words_of_a_query_of_few_people_are_shown_and_found_nowhere(mined, cycles):
    count, rows = mined.listed(None, 9, k=3)
    assert (count, len(rows)) == (3, 3)
    assert "nym" not in json.dumps(rows)
    assert "nym" not in json.dumps(mined.reason(id_of(mined, None), k=3).to_dict())
    assert mined.listed("nym", 9, k=3) == (0, [])
    assert mined.listed("nym", 9, k=2)[0] == 1


def test_the_list_finds_words_in_any_form_and_begins_with_most_weight(mined):
    assert [row["user_query"] for row in mined.listed("SKIN,", 9, 3)[1]] == ["Itchy Skin", "Skin Itching"]
    count, rows = mined.listed(None, 2, 3)
    assert (count, len(rows)) == (3, 2)
    assert rows[0]["weight"] >= rows[1]["weight"]


def test_what_cannot_be_found_is_said_in_one_sentence(mined, cycles, tmp_path):
    with pytest.raises(BadInput, match="Cycle 4 has no triplet zz; `relevanced triplets list --cycle 4`"):
        mined.reason("zz", 3)
    with pytest.raises(BadInput, match=r"3 triplets of cycle 4 begin with ; type more"):
        mined.reason("", 3)
    with pytest.raises(BadInput, match="Cycle 7 has mined no triplets; there are those of 4"):
        mined_by(cycles, 7)
    with pytest.raises(BadInput, match="No cycle has mined triplets yet"):
        mined_by(tmp_path / "none", None)
    (cycles / "4" / "click_model.json").unlink()
    with pytest.raises(BadInput, match="of an older release, which kept no reasons"):
        mined_by(cycles, None)


def test_the_click_model_comes_back_as_it_was():
    model, surfaces = from_json(to_json(MODEL, ["app", "web"]))
    assert surfaces == ["app", "web"]
    assert to_json(model, surfaces) == to_json(MODEL, surfaces)
    assert model.examination is not None
    assert np.array_equal(model.examination, MODEL.examination)
