"""Which of the two goes on, and what is said of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.gate import Comparison, Difference
from relevanced.daemon.worth import AdapterPolicy, said_of_both, worth_its_reindex

POLICY = AdapterPolicy(worth_reindex=0.01)
VERDICTS = st.sampled_from(["accepted", "rejected", "inconclusive"])


def comparison(verdict):
    found = "NDCG@10 rose by 0.040 (0.020 to 0.060) against live 3 on 300 held-out queries"
    return Comparison(verdict, 0.04, 0.02, 0.06, 300, 0.0, None, found, f"{verdict}.")


def above(low):
    return Difference(low + 0.01, low, low + 0.02)


@pytest.mark.parametrize(
    ("full", "adapter", "low", "worth"),
    [
        ("accepted", "accepted", 0.011, True),
        ("accepted", "accepted", 0.01, False),  # it must exceed it
        ("accepted", "accepted", -0.02, False),
        ("rejected", "accepted", 0.2, False),  # whatever it gains, the gate has found harm in it
        ("inconclusive", "accepted", 0.2, False),
        ("accepted", "rejected", -0.2, True),  # and conversely
        ("accepted", "inconclusive", -0.2, True),
        ("inconclusive", "rejected", -0.2, True),  # as if there were no adapter
    ],
)
def test_the_full_fine_tuning_goes_on_only_if_it_is_worth_its_reindex(full, adapter, low, worth):
    assert worth_its_reindex(comparison(full), comparison(adapter), above(low), POLICY) == worth


@given(VERDICTS, VERDICTS, st.floats(-0.5, 0.5))
def test_whoever_goes_on_was_accepted_where_any_was(full, adapter, low):
    worth = worth_its_reindex(comparison(full), comparison(adapter), above(low), POLICY)
    if "accepted" in (full, adapter):
        assert (full if worth else adapter) == "accepted"
    else:
        assert worth


def said(full, adapter, low):
    return said_of_both((8, comparison(full)), (7, comparison(adapter)), above(low), POLICY)


def test_the_sentence_says_which_and_why():
    assert said("accepted", "accepted", -0.003) == (
        " Version 7 is a query-side adapter that needs no re-index; the full fine-tuning, version 8, is +0.007"
        " (-0.003 to 0.017) against it: not worth its re-index."
    )
    assert said("inconclusive", "accepted", 0.02).endswith(
        "version 8, is +0.030 (0.020 to 0.040) against it: it was left undecided."
    )
    assert said("accepted", "accepted", 0.02).endswith(
        "was accepted too; the full fine-tuning, version 8, is +0.030 (0.020 to 0.040) against it: worth its re-index."
    )
    assert said("rejected", "rejected", 0.02) == (
        " Version 7, a query-side adapter that needs no re-index, was rejected too: NDCG@10 rose by 0.040 (0.020 to"
        " 0.060) against live 3 on 300 held-out queries."
    )
    assert "was left undecided: NDCG@10" in said("accepted", "inconclusive", 0.02)
