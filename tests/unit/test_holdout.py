from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relevanced.daemon.holdout import MOMENT, HoldoutPolicy, cluster_hash, is_held_out, split
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.triplets import TripletPolicy, mine_triplets

START = datetime(2026, 1, 1, tzinfo=UTC)
SPELLINGS = {
    "rash": ["rash", "Rashes", "RASH", "rashed"],
    "itch": ["itch", "itching", "Itches", "itched"],
    "fever": ["fever", "fevers", "Fevered"],
    "allergy": ["allergy", "allergies", "ALLERGY"],
    "head": ["head", "heads", "head\N{COMBINING ACUTE ACCENT}"],
    "c++": ["c++", "C++"],
}
NEEDS = [
    frozenset(need.split())
    for need in ("rash", "c++", "allergy", "rash itch", "itch fever", "head rash", "rash itch fever", "head allergy")
]
MONTH = st.floats(0, 30)
FILLERS = ["the", "of", "how do I", "?", "!", " - ", "  "]


class Typed(NamedTuple):
    """One search: the need behind it, how it was put, and when, in days."""

    need: frozenset[str]
    text: str
    day: float


@st.composite
def searches(draw, days=MONTH):
    """Needs, each typed in some of the ways in which people type one thing."""
    need = draw(st.sampled_from(NEEDS))
    words = draw(st.permutations([draw(st.sampled_from(SPELLINGS[word])) for word in sorted(need)]))
    words += draw(st.lists(st.sampled_from(words), max_size=1))
    gaps = draw(st.lists(st.sampled_from(FILLERS), min_size=len(words), max_size=len(words)))
    return Typed(need, " ".join(f"{gap} {word}" for gap, word in zip(gaps, words, strict=True)), draw(days))


logs = st.lists(searches(), min_size=1, max_size=25)
policies = st.builds(HoldoutPolicy, share=st.floats(0.1, 0.9), recent_days=st.sampled_from([0.0, 0.5, 7.0, 40.0]))


def table(keys: list[str]) -> pa.Table:
    grades = pa.array([0.9] * len(keys), pa.float64())
    known = {"grade": grades, "weight": grades, "expected_clicks": grades}
    names = pa.array(keys, pa.string())
    return pa.table({"query_key": names, "document_id": names, "source": names, **known})


def typed_table(log: list[Typed]) -> pa.Table:
    """As the statement typed_queries gives it, but in the order of the log."""
    days: dict[str, list[float]] = {}
    for one in log:
        days.setdefault(one.text, []).append(one.day)
    moments = {"first_typed": map(min, days.values()), "last_typed": map(max, days.values())}
    columns = {name: pa.array([START + timedelta(days=day) for day in some], MOMENT) for name, some in moments.items()}
    return pa.table({"query_key": pa.array(map(query_key, days), pa.string()), **columns})


def sides(log: list[Typed], policy: HoldoutPolicy) -> tuple[pa.Table, dict[str, str]]:
    """The training side, and what each held-out query is held out by."""
    training, held_out = split(table([query_key(one.text) for one in log]), typed_table(log), policy)
    return training, dict(zip(held_out["query_key"].to_pylist(), held_out["held_out_by"].to_pylist(), strict=True))


@given(logs, policies)
def test_no_triplet_asks_what_is_held_out(log, policy):
    training, held_out_by = sides(log, policy)
    run = pa.table({name: pa.array([], pa.string()) for name in ("query_key", "document_id", "score")})
    triplets = mine_triplets(training, run, {query_key(one.text): one.text for one in log}, TripletPolicy())
    needs = {query_key(one.text): one.need for one in log}
    held_out = {needs[key] for key in held_out_by}
    trained = {needs[query_key(anchor)] for anchor in triplets["anchor"].to_pylist()}
    assert not trained & held_out
    assert trained | held_out == set(needs.values())


@given(logs, policies)
def test_no_cluster_falls_on_both_sides_and_no_judgment_on_none(log, policy):
    training, held_out_by = sides(log, policy)
    keys = training["query_key"].to_pylist()
    assert not {cluster_key(key) for key in keys} & {cluster_key(key) for key in held_out_by}
    assert {*keys, *held_out_by} == {query_key(one.text) for one in log}
    assert len(keys) == sum(query_key(one.text) not in held_out_by for one in log)


@given(logs, logs, policies, st.randoms())
def test_what_is_held_out_by_its_hash_stays_so_whatever_else_is_typed_and_in_any_order(log, others, policy, rng):
    _, before = sides(log, policy)
    more = [*log, *others]
    rng.shuffle(more)
    training, after = sides(more, policy)
    for key, by in before.items():
        if by != "time":
            assert after[key] in ("hash", "both")
    if policy.recent_days == 0:
        assert set(before.values()) <= {"hash"}
        keys = {query_key(one.text) for one in log}
        assert keys & set(training["query_key"].to_pylist()) == keys - before.keys()


@given(logs, policies, st.randoms())
def test_the_order_of_the_log_changes_no_side(log, policy, rng):
    shuffled = list(log)
    rng.shuffle(shuffled)
    assert sides(log, policy)[1] == sides(shuffled, policy)[1]


@given(logs, st.lists(searches(days=st.floats(30, 90)), max_size=10), policies)
def test_what_was_trained_on_is_not_held_out_later(log, later, policy):
    """Else live would be asked in the gate what it knows by heart."""
    training, _ = sides(log, policy)
    assert not set(training["query_key"].to_pylist()) & sides([*log, *later], policy)[1].keys()


@given(logs, st.floats(0.1, 40), st.floats(0.1, 0.9))
def test_a_need_is_recent_when_nobody_typed_it_before(log, days, share):
    first: dict[frozenset[str], float] = {}
    for one in log:
        first[one.need] = min(first.get(one.need, 99.0), one.day)
    ages = {need: max(one.day for one in log) - day for need, day in first.items()}
    assume(all(abs(age - days) > 1e-6 for age in ages.values()))  # moments have microseconds
    _, held_out_by = sides(log, HoldoutPolicy(share=share, recent_days=days))
    recent = {query_key(one.text): ages[one.need] < days for one in log}
    assert {key: by != "hash" for key, by in held_out_by.items()} == {key: recent[key] for key in held_out_by}
    assert all(key in held_out_by for key, is_recent in recent.items() if is_recent)


def test_a_recent_query_comes_into_training_when_it_is_older_unless_its_hash_says_otherwise():
    policy = HoldoutPolicy(recent_days=7)
    log = [Typed(frozenset(), name, 20) for name in "abcd"] + [Typed(frozenset(), "e", 0)]
    assert sides(log, policy)[1] == {"a": "both", "b": "time", "c": "time", "d": "both"}
    assert sides([*log, Typed(frozenset(), "e", 30)], policy)[1] == {"a": "hash", "d": "hash"}


def test_a_query_without_a_moment_is_not_recent():
    undated = typed_table([Typed(frozenset(), "b", 0)]).set_column(1, "first_typed", pa.array([None], MOMENT))
    training, held_out = split(table(["b", "unknown"]), undated, HoldoutPolicy(recent_days=7))
    assert (training["query_key"].to_pylist(), len(held_out)) == (["b", "unknown"], 0)


def test_a_log_of_zero_times_can_be_parted():
    """As an application sends that leaves the field empty in Go or .NET."""
    zero = pa.array([datetime(1, 1, 1, tzinfo=UTC)], MOMENT)
    typed = pa.table({"query_key": ["b"], "first_typed": zero, "last_typed": zero})
    _, held_out = split(table(["b"]), typed, HoldoutPolicy(recent_days=7))
    assert held_out["first_typed"].to_pylist() == zero.to_pylist()


@given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.floats(0.01, 0.98))
def test_a_larger_share_never_returns_a_query_to_training(key, share):
    assert is_held_out(key, HoldoutPolicy(share=share)) <= is_held_out(key, HoldoutPolicy(share=share + 0.01))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_of_clusters_is_what_was_asked(share):
    held_out = sum(is_held_out(f"cluster {number}", HoldoutPolicy(share=share)) for number in range(20_000))
    assert held_out / 20_000 == pytest.approx(share, abs=0.012)


def test_the_side_is_the_same_on_every_machine():
    """Fixed here: another hash would put held-out queries of older cycles into training."""
    assert [key for key in "abcdefghijklmnop" if is_held_out(key, HoldoutPolicy())] == ["a", "d", "k", "o"]


@pytest.mark.parametrize("recent_days", [0.0, 7.0])
def test_no_judgments_part_into_none(recent_days):
    parts = split(table([]), typed_table([]), HoldoutPolicy(recent_days=recent_days))
    assert [len(part) for part in parts] == [0, 0]


@given(logs, policies, st.sets(st.sampled_from(NEEDS)))
def test_what_experts_have_judged_is_held_out_whatever_its_hash_and_in_whatever_words(log, policy, judged):
    golden = {cluster_key(query_key(" ".join(sorted(need)))) for need in judged}
    keys = [query_key(one.text) for one in log]
    training, held_out = split(table(keys), typed_table(log), policy, golden=set(map(cluster_hash, golden)))
    assert not golden & {cluster_key(key) for key in training["query_key"].to_pylist()}
    for key, by in zip(held_out["query_key"].to_pylist(), held_out["held_out_by"].to_pylist(), strict=True):
        cluster = cluster_key(key)
        assert (by == "golden") == (cluster in golden and not is_held_out(cluster, policy))


@given(logs, policies, st.sets(st.sampled_from(NEEDS)))
def test_what_was_asked_often_enough_is_trained_on_unless_it_is_new(log, policy, worn):
    retired = {cluster_hash(cluster_key(query_key(" ".join(sorted(need))))) for need in worn}
    keys = [query_key(one.text) for one in log]
    training, held_out = split(table(keys), typed_table(log), policy, retired=retired)
    before = sides(log, policy)[1]
    after = dict(zip(held_out["query_key"].to_pylist(), held_out["held_out_by"].to_pylist(), strict=True))
    for key in keys:
        if cluster_hash(cluster_key(key)) not in retired:
            assert after.get(key) == before.get(key)
        else:
            assert after.get(key) == {"both": "time", "time": "time"}.get(before.get(key, ""))
    assert {*training["query_key"].to_pylist(), *after} == set(keys)
