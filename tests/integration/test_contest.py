"""The gate on a real database and real files; how the versions rank is given."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.calibration import read_calibration
from relevanced.daemon.config import Settings
from relevanced.daemon.contest import gate
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.documents import load_documents
from relevanced.daemon.error_budget import level_of
from relevanced.daemon.errors import FailStep, Retry
from relevanced.daemon.exact_runs import Run
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.golden import GoldenJudgment, Wish, load_golden, wish, wishes
from relevanced.daemon.holdout import HoldoutPolicy
from relevanced.daemon.holdout_use import retire
from relevanced.daemon.ports import silent
from relevanced.daemon.queries import cluster_key
from relevanced.daemon.records import Document, Outcome
from relevanced.daemon.reranking import RerankerPolicy, RunReranker
from relevanced.daemon.status import status_of, status_sentences, versions_table
from relevanced.daemon.trial import TrialPolicy
from relevanced.daemon.tryout import begin_trial, next_level, open_trial
from relevanced.daemon.wiring import Parts

BEST, WORST = {"good": 0.9, "bad": 0.1}, {"bad": 0.9, "good": 0.1}
OLD, NEW = [f"old{number}" for number in range(20)], [f"new{number}" for number in range(10)]
HASHED = OLD + NEW
RECENT = [f"recent{number}" for number in range(40)]
JUDGED = {"document_id": "good", "grade": 0.9, "weight": 0.9, "inclusion": 1.0}


class Town:
    """Live is version 2, of cycle 1. A version ranks well for the queries in `good`, and others badly."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.good: dict[int, set[str]] = {3: set(HASHED), 2: set(RECENT)}
        self.train({"base": "b"}, "verified")
        self.train({"base": 1, "cycle_id": 1}, "verified")
        parts.promotion.promote(2, actor="ada", reason="start")
        self.train({"base": 1, "cycle_id": 2})
        self.end(begin_cycle(parts.database, "first").cycle_id)

    def train(
        self, manifest: Mapping[str, Any], state: history.VersionState = "candidate", index: int | None = None
    ) -> int:
        with self.parts.database.connection() as connection:
            number = history.register_version(connection, None)
        history.complete_version(self.parts.database, number, Path(f"/m{number}"), "f", 64, manifest, index)
        history.set_state(self.parts.database, number, state)
        return number

    def ranked(self, _stages: Any, version_id: int, queries: Mapping[str, str], *_: Any) -> Run:
        return {query: BEST if query in self.good.get(version_id, set()) else WORST for query in queries}

    def write(self, cycle_id: int, name: str, rows: list[dict[str, Any]]) -> None:
        folder = self.parts.stages.directory / str(cycle_id)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name)

    def leave_the_files_of_live(self) -> None:
        self.write(1, "holdout.parquet", [{"query_key": key} for key in OLD])
        self.write(1, "triplets.parquet", [{"query_key": "taught", "positive_id": "good"}])

    def contest(self, rows: list[dict[str, Any]], candidate: int = 3, adapter: int | None = None) -> Outcome:
        """A cycle that holds out these rows and has trained this candidate comes to its gate, and ends."""
        cycle_id = begin_cycle(self.parts.database, "test").cycle_id
        self.write(cycle_id, "holdout.parquet", [{**JUDGED, "user_query": row["query_key"], **row} for row in rows])
        with self.parts.database.connection() as connection:
            connection.execute(sql.postgres["replace_candidate"], {"cycle_id": cycle_id, "version_id": candidate})
            connection.execute(sql.postgres["note_adapter"], {"cycle_id": cycle_id, "version_id": adapter})
        outcome = gate(self.parts.stages, cycle_of(self.parts.database, cycle_id), silent)
        self.end(cycle_id, outcome)
        return outcome

    def end(self, cycle_id: int, outcome: Outcome | None = None) -> None:
        with self.parts.database.connection() as connection:
            connection.execute(
                "UPDATE relevanced.cycle SET step = 'ended', ended_at = now() WHERE cycle_id = %s", [cycle_id]
            )
            if outcome:
                connection.execute(
                    "INSERT INTO relevanced.cycle_step (cycle_id, step, verdict, sentence, numbers, ended_at)"
                    " VALUES (%s, 'gate', %s, %s, jsonb_build_object('tests', %s::integer), now())",
                    [cycle_id, outcome.verdict, outcome.sentence, outcome.numbers["tests"]],
                )

    def candidate_of_the_last_cycle(self) -> int | None:
        number: int | None = history.cycles(self.parts.database)[0]["candidate_version_id"]
        return number

    def states(self, *version_ids: int) -> list[str]:
        return [history.version(self.parts.database, number).state for number in version_ids]


def by_hash(queries: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"query_key": query, "held_out_by": "hash", **more} for query in queries]


def by_time(queries: list[str]) -> list[dict[str, Any]]:
    return [{"query_key": query, "held_out_by": "time"} for query in queries]


@pytest.fixture
def new_town(
    new_database_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Town]]:
    built: list[Parts] = []

    def build(gate: GatePolicy = GatePolicy(min_queries=10), **settings: Any) -> Town:  # noqa: B008
        url = SecretStr(new_database_url())
        built.append(parts := Parts(tmp_path, Settings(database_url=url, gate=gate, **settings)))
        load_documents(parts.database, [Document(name, name, name) for name in ("good", "bad")], silent)
        town = Town(parts)
        monkeypatch.setattr("relevanced.daemon.asked.exact_run", town.ranked)
        return town

    yield build
    for parts in built:
        parts.close()


@pytest.fixture
def town(new_town: Callable[..., Town]) -> Town:
    return new_town()


def test_the_verdict_is_that_of_the_hash_and_the_slices_tell_of_the_rest(town: Town) -> None:
    town.leave_the_files_of_live()
    outcome = town.contest(by_hash(HASHED) + by_time(RECENT))
    assert outcome.verdict == "accepted"
    slices = {name: (found["queries"], found["difference"] > 0) for name, found in outcome.numbers["slices"].items()}
    assert slices == {
        "recent_queries": (40, False),
        "earlier_queries": (30, True),
        "novel_queries": (10, True),
        "seen_queries": (20, True),
        "head_queries": (10, True),
        "torso_queries": (10, True),
        "tail_queries": (10, True),
    }
    assert outcome.numbers["queries"] == 30
    metrics = history.version(town.parts.database, 3).manifest["metrics"]
    assert metrics["slices"] == outcome.numbers["slices"]


def test_without_the_files_of_live_the_verdict_stands_alone(town: Town) -> None:
    outcome = town.contest(by_hash(HASHED))
    assert (outcome.verdict, outcome.numbers["slices"].keys()) == (
        "accepted",
        {"head_queries", "torso_queries", "tail_queries"},
    )
    town.write(1, "holdout.parquet", [{"query_key": "a"}])
    (town.parts.stages.directory / "1" / "triplets.parquet").write_bytes(b"torn")
    assert town.contest(by_hash(HASHED)).numbers["slices"].keys() == outcome.numbers["slices"].keys()


def test_where_the_base_model_is_live_nothing_tells_novel_from_known(town: Town) -> None:
    town.leave_the_files_of_live()
    town.parts.promotion.promote(1, actor="ada", reason="back")
    names = town.contest(by_hash(HASHED)).numbers["slices"].keys()
    assert not [name for name in names if "novel" in name or "known" in name]


def test_a_file_mined_before_there_was_another_way_is_of_the_hash(town: Town) -> None:
    assert town.contest([{"query_key": query} for query in HASHED]).verdict == "accepted"


def test_queries_that_experts_have_judged_decide_nothing_here(town: Town) -> None:
    """Live may have been trained on them before they were judged."""
    golden = [{"query_key": query, "held_out_by": "golden"} for query in RECENT]
    assert town.contest(by_hash(HASHED) + golden).numbers["queries"] == 30


def test_a_candidate_that_helps_the_head_and_harms_the_tail_is_stopped_by_name(town: Town) -> None:
    tail = [f"seldom{number}" for number in range(40)]
    town.good = {2: set(tail), 3: set(HASHED)}
    found = town.contest(by_hash(HASHED, actors=50, inclusion=0.34) + by_hash(tail, actors=20, inclusion=1.0))
    assert found.numbers["difference"] > 0.05
    assert found.verdict == "rejected"
    assert found.numbers["objections"] == ["slice tail_queries"]
    assert "on the 38 of tail_queries" in found.sentence


def test_a_candidate_that_serves_one_application_and_fails_another_is_stopped_by_name(town: Town) -> None:
    town.good = {2: set(OLD), 3: set(NEW) | set(RECENT)}
    found = town.contest(
        by_hash(OLD, application="kiosk", device=None) + by_hash(NEW + RECENT, application="web", device="phone")
    )
    assert found.numbers["difference"] > 0.1
    assert (found.verdict, found.numbers["objections"]) == (
        "rejected",
        ["slice application kiosk", "slice device (none)"],
    )


def test_so_few_queries_that_nothing_is_accepted_reject_nothing_either(new_town: Callable[..., Town]) -> None:
    town = new_town(gate=GatePolicy(min_queries=71))
    town.good = {2: set(OLD), 3: set(NEW) | set(RECENT)}
    rows = by_hash(OLD, application="kiosk") + by_hash(NEW + RECENT, application="web")
    found = town.contest(rows)
    assert (found.verdict, found.numbers["objections"]) == ("inconclusive", [])
    assert found.numbers["slices"]["application kiosk"]["high"] < 0


def test_what_is_worse_than_what_was_live_once_is_stopped_by_its_number(town: Town) -> None:
    town.parts.promotion.promote(1, actor="ada", reason="for a while")
    town.parts.promotion.promote(2, actor="ada", reason="on")
    town.good = {1: set(HASHED), 2: set(), 3: set(HASHED[:20])}
    found = town.contest(by_hash(HASHED))
    assert (found.verdict, found.numbers["objections"]) == ("rejected", ["version 1"])
    assert "against version 1, which was live before, NDCG@10 fell by" in found.sentence


def test_a_version_that_was_taken_back_is_no_measure(town: Town) -> None:
    town.parts.promotion.promote(1, actor="ada", reason="a mistake")
    town.parts.promotion.rollback(actor="ada", reason="people left")
    assert history.lived_before(town.parts.database) == []
    town.good = {1: set(HASHED), 2: set(), 3: set(HASHED[:20])}
    assert town.contest(by_hash(HASHED)).verdict == "accepted"


def test_the_worst_hit_are_listed_but_for_what_few_people_typed(town: Town) -> None:
    town.good = {2: {"old1", "old2"}, 3: set(HASHED) - {"old1", "old2"}}
    rows = by_hash(HASHED, actors=5)
    rows[1]["actors"] = 2
    worst = town.contest(rows).numbers["worst_hit"]
    assert [(one["user_query"], one["difference"] < 0) for one in worst] == [("old2", True)]


def test_scores_are_mapped_to_the_base_versions_scale(town: Town) -> None:
    town.good = {3: set(HASHED)}
    assert town.contest(by_hash(HASHED)).verdict == "accepted"
    calibration = read_calibration(history.version(town.parts.database, 3).manifest)
    assert calibration is not None
    assert (calibration.scale, calibration.of(0.9), calibration.of(0.1), calibration.shift) == (1, 0.9, 0.1, 0)


def test_a_holdout_without_a_relevant_document_decides_nothing_and_breaks_no_table(town: Town) -> None:
    found = town.contest(by_hash(HASHED, grade=0.1))
    assert (found.verdict, found.numbers["ndcg@10"], found.numbers["tests"]) == ("inconclusive", None, 0)
    versions_table(history.versions(town.parts.database), town.parts.promotion.serving(), {})


def test_each_test_may_err_less_than_the_one_before_until_a_promotion(town: Town) -> None:
    town.good = {2: set(HASHED), 3: set(HASHED)}
    levels = [town.contest(by_hash(HASHED)).numbers["level"] for _ in range(3)]
    assert levels == [level_of(test, 0.05) for test in (1, 2, 3)]
    town.parts.promotion.promote(1, actor="ada", reason="for a while")
    assert next_level(town.parts.stages) == level_of(1, 0.05)


def test_a_trial_spends_of_the_same_error_and_too_few_queries_spend_none(new_town: Callable[..., Town]) -> None:
    town = new_town(trial=TrialPolicy(share=0.5))
    town.good = {2: {*HASHED[:3]}, 3: {*HASHED[3:8]}}
    assert town.contest(by_hash(HASHED[:5])).numbers["tests"] == 0
    assert next_level(town.parts.stages) == level_of(1, 0.05)
    assert town.contest(by_hash(HASHED)).verdict == "trial"
    history.set_state(town.parts.database, 3, "verified")
    begin_trial(town.parts.stages, 3, "promotion")
    trial = open_trial(town.parts.database)
    assert trial is not None
    assert trial.level == level_of(2, 0.05)
    assert next_level(town.parts.stages) == level_of(3, 0.05)


def undecided(town: Town) -> Outcome:
    """A candidate with a gain that luck may have brought."""
    town.good = {2: {*HASHED[:3]}, 3: {*HASHED[3:8]}}
    return town.contest(by_hash(HASHED))


def test_a_candidate_in_doubt_is_kept_and_accepted_once_enough_queries_tell(town: Town) -> None:
    first = undecided(town)
    assert (first.verdict, town.states(3)) == ("inconclusive", ["candidate"])
    enough = first.numbers["enough_queries"]
    assert first.sentence.endswith(f" Version 3 is kept until {enough} held-out queries tell more.")
    status = status_of(town.parts.database, town.parts.log_store)
    assert f"Version 3 is kept until {enough} held-out queries tell whether it is better." in [
        *status_sentences(status)
    ]
    assert status["last_cycle"]["steps"][-1]["sentence"] == first.sentence

    queries = [f"later{number}" for number in range(enough)]
    town.good = {2: set(queries[::5]), 3: set(queries), 4: set()}
    town.train({"base": 1})
    found = town.contest(by_hash(queries), candidate=4)
    assert (found.verdict, found.numbers["tests"]) == ("accepted", 2)
    assert found.sentence.startswith("Accepted candidate 3: ")
    assert town.candidate_of_the_last_cycle() == 3
    assert town.states(3, 4) == ["candidate", "rejected"]
    assert found.numbers["level"] == level_of(3, 0.05)


def test_until_then_it_is_left_alone_and_goes_when_a_newer_one_is_accepted(town: Town) -> None:
    undecided(town)
    town.train({"base": 1})
    town.good |= {4: set(HASHED)}
    found = town.contest(by_hash(HASHED), candidate=4)
    assert (found.verdict, found.numbers["tests"], town.candidate_of_the_last_cycle()) == ("accepted", 1, 4)
    assert town.states(3, 4) == ["rejected", "candidate"]


def test_of_two_in_doubt_the_one_that_takes_fewer_queries_is_kept(town: Town) -> None:
    undecided(town)
    town.train({"base": 1})
    town.good |= {4: {*HASHED[3:7]}}  # a smaller gain takes more queries
    assert town.contest(by_hash(HASHED), candidate=4).verdict == "inconclusive"
    assert town.states(3, 4) == ["candidate", "rejected"]


def test_what_was_kept_against_a_version_that_is_live_no_more_is_given_up(town: Town) -> None:
    undecided(town)
    town.parts.promotion.promote(1, actor="ada", reason="back")
    town.train({"base": 1})
    town.good |= {1: set(HASHED), 4: set()}
    assert town.contest(by_hash(HASHED), candidate=4).verdict == "rejected"
    assert town.states(3, 4) == ["rejected", "rejected"]


def test_queries_that_were_asked_often_enough_are_asked_no_more_while_others_stay(town: Town) -> None:
    for _ in range(2):
        uses = town.contest(by_hash(OLD)).numbers
    town.contest(by_hash(HASHED))
    assert (uses["mean_uses"], uses["most_uses"]) == (2, 2)
    clusters = {cluster_key(query) for query in OLD}
    few = HoldoutPolicy(max_verdicts=3, min_kept=11)
    assert retire(town.parts.database, few) == set()
    assert len(retire(town.parts.database, HoldoutPolicy(max_verdicts=3, min_kept=10))) == len(clusters)
    assert len(retire(town.parts.database, few)) == len(clusters), "what has been trained on is never asked again"


def test_queries_that_have_left_the_log_are_none_that_stay(town: Town) -> None:
    town.contest(by_hash(NEW))
    town.contest(by_hash(OLD))
    town.contest(by_hash(OLD))
    assert retire(town.parts.database, HoldoutPolicy(max_verdicts=2, min_kept=1)) == set()


def judged_by_experts(town: Town, queries: list[str]) -> None:
    rows = [GoldenJudgment(query, "good", 1.0) for query in queries]
    load_golden(town.parts.database, rows, "expert", silent)


GOLDEN = [f"golden {number}" for number in range(30)]


def test_what_clicks_call_a_gain_and_experts_a_loss_is_stopped_by_name(town: Town) -> None:
    judged_by_experts(town, GOLDEN)
    town.good = {2: {f"golden: {query}" for query in GOLDEN}, 3: set(HASHED)}
    found = town.contest(by_hash(HASHED))
    assert (found.verdict, found.numbers["objections"]) == ("rejected", ["golden"])
    assert "but on 30 golden queries NDCG@10 fell by" in found.sentence


def test_where_experts_find_better_what_clicks_reject_the_sentence_says_that_they_disagree(town: Town) -> None:
    judged_by_experts(town, GOLDEN)
    town.good = {2: set(HASHED), 3: {f"golden: {query}" for query in GOLDEN}}
    found = town.contest(by_hash(HASHED))
    assert found.verdict == "rejected"
    assert "; the golden set disagrees, where NDCG@10 rose by" in found.sentence


def test_experts_decide_where_clicks_are_of_too_few_queries(town: Town) -> None:
    judged_by_experts(town, GOLDEN)
    town.good = {3: {f"golden: {query}" for query in GOLDEN}}
    found = town.contest(by_hash(HASHED[:5]))
    assert (found.verdict, found.numbers["tests"]) == ("accepted", 1)
    assert "on 30 golden queries." in found.sentence


def test_what_a_gate_wished_to_know_counts_where_clicks_say_nothing(town: Town) -> None:
    town.good = {2: set(HASHED), 3: set(HASHED)}
    rows = by_hash(HASHED, actors=3)
    rows[0]["actors"] = 2
    assert town.contest(rows).numbers["judged@10"] == 1
    wanted = wishes(town.parts.database, 100)
    assert {(row["user_query"], row["document_id"]) for row in wanted} == {(query, "bad") for query in HASHED[1:]}
    load_golden(
        town.parts.database, [GoldenJudgment(query, "bad", 1.0, wished=True) for query in HASHED[1:]], "expert", silent
    )
    told = town.contest(rows).numbers
    assert told["judged@10"] == pytest.approx(1 + 29 / 30)
    assert told["golden"] is None, "a wish is no golden set"
    load_golden(town.parts.database, [GoldenJudgment(query, "good", 0.0) for query in HASHED], "expert", silent)
    assert town.contest(rows).numbers["ndcg@10"] == pytest.approx(told["ndcg@10"]), "clicks are not overruled"


def test_a_query_whose_only_document_turns_out_to_be_irrelevant_is_not_asked(town: Town) -> None:
    """Clicks had made nobody sure of it; more likely relevant than not is enough to be asked about."""
    wish(town.parts.database, [Wish("old1", "good", 1.0)])
    load_golden(town.parts.database, [GoldenJudgment("old1", "good", 0.0, wished=True)], "expert", silent)
    rows = by_hash(HASHED)
    rows[1]["weight"] = 0.2
    assert town.contest(rows).numbers["queries"] == len(HASHED) - 1


class Upside:
    """A reranker that prefers what the version 3 shows least."""

    def score(self, query: str, documents: Any) -> list[float]:
        return [float(len(text)) for text in documents]


def test_a_better_embedder_that_worsens_the_stack_is_stopped(
    new_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind this reranker live's answers are good, for they alone hold a good document among the few that it reads."""
    town = new_town(reranker=RerankerPolicy(model="upside", depth=2))
    monkeypatch.setattr("relevanced.daemon.asked.open_reranker", lambda _: Upside())
    documents = [Document("good", "", "long words"), Document("bad", "", "x"), Document("worse", "", "very long words")]
    load_documents(town.parts.database, documents, silent)

    def ranked(_stages: Any, version_id: int, queries: Mapping[str, str], *_: Any) -> Run:
        mine = {"good": 0.9, "worse": 0.8} if version_id == 3 else {"bad": 0.9, "good": 0.8}
        return dict.fromkeys(queries, mine)

    monkeypatch.setattr("relevanced.daemon.asked.exact_run", ranked)
    found = town.contest(by_hash(HASHED))
    assert found.numbers["difference"] > 0.3
    assert (found.verdict, found.numbers["objections"]) == ("rejected", ["reranked"])
    assert "but behind the reranker NDCG@10 fell by" in found.sentence
    assert found.numbers["reranked"]["high"] < 0


def test_a_query_that_nobody_could_click_an_answer_to_is_asked_about_of_both_versions_alike(town: Town) -> None:
    lost = [f"lost{number}" for number in range(10)]
    town.good = {3: {*HASHED, *lost}}
    rows = by_hash(HASHED, actors=1) + by_hash(lost, actors=3, grade=0.1, weight=0.1)
    assert town.contest(rows).numbers["queries"] == len(HASHED)
    asked = {(row["user_query"], row["document_id"]) for row in wishes(town.parts.database, 100)}
    assert asked == {(query, name) for query in lost for name in ("good", "bad")}
    told = [GoldenJudgment(query, "good", 1.0, wished=True) for query in lost[:6]]
    load_golden(town.parts.database, told, "expert", silent)
    assert town.contest(rows).numbers["queries"] == len(HASHED) + 6


def missing(town: Town, version_ids: set[int]) -> Callable[..., Run]:
    def ranked(stages: Any, version_id: int, *more: Any) -> Run:
        if version_id in version_ids:
            raise FailStep(f"The files of version {version_id} are gone.")
        return town.ranked(stages, version_id, *more)

    return ranked


def test_a_version_that_lived_before_and_is_gone_is_no_measure_and_ends_no_cycle(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = town.train({"base": 1}, "verified")
    town.parts.promotion.promote(other, actor="ada", reason="for a while")
    town.parts.promotion.promote(2, actor="ada", reason="on")
    monkeypatch.setattr("relevanced.daemon.asked.exact_run", missing(town, {other}))
    found = town.contest(by_hash(HASHED))
    assert (found.verdict, found.numbers["before"]) == ("accepted", {})


def test_a_candidate_that_was_kept_and_is_gone_is_let_go(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = undecided(town).numbers["enough_queries"]
    queries = [f"later{number}" for number in range(enough)]
    town.good = {2: set(queries[:2]), 4: set(queries[2:5])}
    town.train({"base": 1})
    monkeypatch.setattr("relevanced.daemon.asked.exact_run", missing(town, {3}))
    assert town.contest(by_hash(queries), candidate=4).numbers["tests"] == 1
    assert town.states(3) == ["rejected"]


class Away:
    def score(self, query: str, documents: Any) -> list[float]:
        raise Retry("The reranker does not answer.")


def test_a_reranker_that_does_not_answer_ends_the_step_and_not_the_daemon(
    new_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch
) -> None:
    town = new_town(reranker=RerankerPolicy(model="away"))
    monkeypatch.setattr("relevanced.daemon.asked.open_reranker", lambda _: Away())
    with pytest.raises(FailStep, match="The reranker does not answer"):
        town.contest(by_hash(HASHED))


def test_what_was_kept_and_loses_is_let_go_although_another_goes_on_trial(
    new_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch
) -> None:
    town = new_town()
    enough = undecided(town).numbers["enough_queries"]
    queries = [f"later{number}" for number in range(enough)]
    town.train({"base": 1})
    town.good = {2: set(queries[::10]), 3: set(), 4: set(queries[5::8])}
    object.__setattr__(town.parts.stages, "trial", TrialPolicy(share=0.5))  # switched on since
    found = town.contest(by_hash(queries), candidate=4)
    assert (found.verdict, found.numbers["tests"], town.states(3, 4)) == ("trial", 2, ["rejected", "candidate"])


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_gate_that_is_killed_on_the_way_has_decided_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = undecided(town).numbers["enough_queries"]
    queries = [f"later{number}" for number in range(enough)]
    town.good = {2: set(queries[::5]), 3: set(queries), 4: set()}
    town.train({"base": 1})
    kept = history.kept_candidates(town.parts.database)
    with monkeypatch.context() as patch:
        patch.setattr("relevanced.daemon.contest.wish", killed)
        with pytest.raises(KeyboardInterrupt):
            town.contest(by_hash(queries), candidate=4)
    assert history.kept_candidates(town.parts.database) == kept
    found = town.contest(by_hash(queries), candidate=4)
    assert (found.verdict, found.numbers["tests"], town.candidate_of_the_last_cycle()) == ("accepted", 2, 3)
    assert town.states(3, 4) == ["candidate", "rejected"]


def test_a_reranker_that_fails_on_a_kept_candidate_does_not_cost_it(
    new_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the version's."""
    town = new_town(reranker=RerankerPolicy(model="away"))
    monkeypatch.setattr("relevanced.daemon.asked.open_reranker", lambda _: Upside())
    enough = undecided(town).numbers["enough_queries"]
    queries = [f"later{number}" for number in range(enough)]
    town.good = {2: set(queries), 3: set(), 4: set(queries)}
    town.train({"base": 1})
    documents = [Document(name, name, name) for name in ("good", "bad")]
    load_documents(town.parts.database, documents, silent)
    answered: list[str] = []

    class UpTo:
        def score(self, query: str, documents: Any) -> list[float]:
            if len(answered) >= 2 * enough:  # live's and the candidate's
                raise Retry("The reranker does not answer.")
            answered.append(query)
            return [0.0 for _ in documents]

    monkeypatch.setattr("relevanced.daemon.asked.RunReranker", Forgetful)
    monkeypatch.setattr("relevanced.daemon.asked.open_reranker", lambda _: UpTo())
    with pytest.raises(FailStep, match="does not answer"):
        town.contest(by_hash(queries), candidate=4)
    assert town.states(3) == ["candidate"]


class Forgetful(RunReranker):
    """Reads every document of every run."""

    def rerank(self, queries: Mapping[str, str], run: Any, progress: Any) -> dict[str, dict[str, float]]:
        self._known.clear()
        return super().rerank(queries, run, progress)


def test_what_nobody_can_find_any_more_is_asked_of_no_version(town: Town) -> None:
    """A golden set of other documents would decide against every candidate, where clicks are few."""
    judgments = [GoldenJudgment(query, "elsewhere", 1.0) for query in GOLDEN]
    load_golden(town.parts.database, judgments, "expert", silent)
    gone = by_hash(RECENT, document_id="gone")
    found = town.contest(by_hash(HASHED[:5]) + gone).numbers
    assert (found["queries"], found["golden"], found["tests"]) == (5, None, 0)


def test_without_any_document_nothing_is_decided(town: Town) -> None:
    with town.parts.database.connection() as connection:
        connection.execute("DELETE FROM relevanced.document")
    found = town.contest(by_hash(HASHED))
    assert (found.verdict, found.numbers["queries"], found.numbers["tests"]) == ("inconclusive", 0, 0)


def with_adapter(town: Town, full: list[str], adapter: list[str]) -> Outcome:
    """Let 3 be the full fine-tuning, and 4 the adapter that was trained beside it."""
    town.good = {3: set(full), 4: set(adapter)}
    return town.contest(by_hash(HASHED), adapter=town.train({"base": 2}, index=2))


def test_an_adapter_goes_on_where_the_full_fine_tuning_is_not_worth_its_reindex(town: Town) -> None:
    found = with_adapter(town, HASHED[1:], HASHED[2:])
    assert (found.verdict, found.numbers["tests"]) == ("accepted", 2)
    assert found.sentence.startswith("Accepted candidate 4: ")
    assert found.sentence.endswith("against it: not worth its re-index.")
    assert (
        "Version 4 is a query-side adapter that needs no re-index; the full fine-tuning, version 3," in found.sentence
    )
    assert (town.candidate_of_the_last_cycle(), town.states(3, 4)) == (4, ["rejected", "candidate"])
    assert (
        found.numbers["adapter"]["full_against_it"]["low"] < 0.01 < found.numbers["adapter"]["full_against_it"]["high"]
    )


def test_the_full_fine_tuning_goes_on_where_it_is(town: Town) -> None:
    found = with_adapter(town, HASHED, HASHED[::2])
    assert (found.verdict, found.numbers["tests"]) == ("accepted", 2)
    assert found.sentence.startswith("Accepted candidate 3: ")
    assert found.sentence.endswith("against it: worth its re-index.")
    assert (town.candidate_of_the_last_cycle(), town.states(3, 4)) == (3, ["candidate", "rejected"])


def test_an_adapter_alone_goes_on_where_the_full_fine_tuning_is_rejected(town: Town) -> None:
    found = with_adapter(town, [], HASHED)
    assert (found.verdict, town.candidate_of_the_last_cycle()) == ("accepted", 4)
    assert found.sentence.endswith("against it: it was rejected.")


def test_an_adapter_that_is_no_better_changes_nothing(town: Town) -> None:
    found = with_adapter(town, HASHED, [])
    assert (found.verdict, town.candidate_of_the_last_cycle()) == ("accepted", 3)
    assert "Version 4, a query-side adapter that needs no re-index, was rejected: NDCG@10" in found.sentence
    both = with_adapter(town, [], [])
    assert (both.verdict, both.numbers["tests"], town.states(3, 5)) == ("rejected", 2, ["rejected", "rejected"])


def test_an_adapter_that_the_gate_cannot_tell_of_is_kept_and_judged_again(town: Town) -> None:
    found = with_adapter(town, [], HASHED[:3])
    assert found.verdict == "rejected"
    assert town.states(3, 4) == ["rejected", "candidate"]
    assert "Version 4 is kept until" in found.sentence
    later = [
        f"later{number}"
        for number in range(history.version(town.parts.database, 4).manifest["metrics"]["enough_queries"])
    ]
    town.good = {4: set(later[::2]), 5: set()}
    outcome = town.contest(by_hash(later), candidate=town.train({"base": 1}))
    assert (outcome.verdict, town.candidate_of_the_last_cycle(), town.states(5)) == ("accepted", 4, ["rejected"])


def test_what_an_adapter_spends_of_the_years_error_is_missing_for_the_next(town: Town) -> None:
    with_adapter(town, [], [])
    assert next_level(town.parts.stages) == level_of(3, town.parts.stages.gate.yearly_error)


def test_what_goes_on_trial_lets_go_of_an_adapter_that_was_rejected(new_town: Callable[..., Town]) -> None:
    town = new_town(trial=TrialPolicy(share=0.5))
    found = with_adapter(town, HASHED[:3], [])
    assert (found.verdict, town.states(3, 4)) == ("trial", ["candidate", "rejected"])


def test_the_loss_of_anchors_is_told_and_rejects_only_where_a_bound_is_set(new_town: Callable[..., Town]) -> None:
    """Anchors are what the base version and live answer well; the candidate loses all of them, and gains more."""
    sentence = " On 30 anchors, which all versions so far answer well, NDCG@10 fell by 0.369 (0.369 to 0.369)."
    for bound, verdict in ((None, "accepted"), (0.1, "rejected")):
        town = new_town(gate=GatePolicy(min_queries=10, anchor_ndcg=0.9, max_anchor_loss=bound))
        town.good = {1: {*HASHED}, 2: {*HASHED}, 3: {*RECENT, *(f"more{number}" for number in range(20))}}
        found = town.contest(by_hash([*HASHED, *town.good[3]]))
        assert (found.verdict, found.numbers["anchors"]["queries"]) == (verdict, 30)
        assert found.sentence.endswith(sentence)
        assert ("anchors" in found.numbers["objections"]) == (bound is not None)


def test_what_falls_on_the_general_set_is_rejected_however_much_people_gain(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [f"g{number}" for number in range(40)]
    general = {1: dict.fromkeys(queries, 0.8), 2: dict.fromkeys(queries, 0.7), 3: dict.fromkeys(queries, 0.75)}
    monkeypatch.setattr("relevanced.daemon.contest.general_ndcg", lambda *_: general)
    found = town.contest(by_hash(HASHED))
    assert (found.verdict, found.numbers["objections"]) == ("rejected", ["general"])
    assert "on 40 queries of the general set NDCG@10 fell by 0.050 (0.050 to 0.050) against base version 1" in (
        found.sentence
    )
    assert found.numbers["general"]["against"]["live 2"]["difference"] == pytest.approx(0.05)
    general[3] = dict.fromkeys(queries, 0.79)
    assert town.contest(by_hash(HASHED)).verdict == "accepted"
