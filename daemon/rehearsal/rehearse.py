"""
A rehearsal: the whole loop on a labelled data set, from the first click to a promotion and back.

In:  the parts of an empty state directory, a data set. Out: a report.
Searchers type into the real search path, their records travel through a real source and real cycles run; only the
people are simulated. How far it is stands in rehearsal.json, so that a rehearsal that was stopped goes on.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from annotated_types import Ge, Interval

from relevanced.daemon import history
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import FailStep
from relevanced.daemon.exact_runs import Run, exact_run
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.following import follow
from relevanced.daemon.metrics import mean_interval, ndcg_at_10
from relevanced.daemon.ports import EventSource, Progress
from relevanced.daemon.records import Cycle, Outcome, SearchRequest, Step, Verdict
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.oracle import oracle_runs
from relevanced.daemon.rehearsal.place import Place
from relevanced.daemon.rehearsal.report import CycleReport, Measure, Pushed, Report, Rollback, mean_rank, pick_examples
from relevanced.daemon.rehearsal.searchers import Searchers, SearchersPolicy
from relevanced.daemon.rehearsal.shown import Shown, sample
from relevanced.daemon.rehearsal.spammers import nearest
from relevanced.daemon.rehearsal.traffic import Traffic
from relevanced.daemon.rehearsal.truth import (
    Pair,
    calibration,
    pair_precision,
    pair_recall,
    teachable_pairs,
    true_pairs,
)
from relevanced.daemon.tryout import check_trial, trials
from relevanced.daemon.wiring import Parts, run_open_cycle

START: Final = datetime(2026, 1, 5, tzinfo=UTC)  # of the simulated time; a Monday
CONFIDENCE: Final = 0.95  # of the intervals in the report


@dataclass(frozen=True, kw_only=True, slots=True)
class RehearsalPolicy:
    """How a rehearsal goes."""

    cycles: Annotated[int, Ge(1)] = 3
    source: Literal["spool", "kafka"] = "spool"  # what the searchers' records travel through
    oracle: bool = False  # also train on every train judgment, as the upper bound
    seed: int = 13
    # Of the documents and of the train queries that come after the first cycle; 0, since most data sets are no stream.
    drift: Annotated[float, Interval(ge=0, lt=1)] = 0.0


class Rehearsal:
    """One rehearsal in one state directory; `tell` hears each step's sentence as it ends."""

    def __init__(
        self,
        parts: Parts,
        views: Sequence[Dataset],
        policy: RehearsalPolicy,
        searchers: SearchersPolicy,
        *,
        place: Place,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        """Take what is there in each cycle; the last view is the whole data set."""
        self._parts, self._views, self._policy, self._place = parts, views, policy, place
        self._dataset, self._last = views[-1], len(views) - 1
        self._searchers = Searchers(self._dataset, searchers, seed=policy.seed, start=START, views=views)
        self._progress, self._tell = progress, tell
        self._runs: dict[tuple[int, int], Run] = {}

    def run(self) -> Report:
        """Do what is left and report on all of it."""
        self._load()
        self._tell(f"Version 1, the base model: NDCG@10 {self._measure(1, 0).ndcg:.3f} on {self._on(0)}.")
        cycles: list[CycleReport] = []
        for number in range(self._policy.cycles):
            self._arrive(number)
            self._traffic(number)
            if self._place.live(number) is None:  # else the cycle has ended, and this is a rehearsal that goes on
                self._look_at_trial()
            cycle = self._cycle(number)
            cycles.append(self._cycle_report(number, cycle))
        oracles = self._oracles() if self._policy.oracle else [None] * len(cycles)
        attainable = self._attainable() if self._policy.oracle else None
        cycles = [replace(cycle, oracle=oracle) for cycle, oracle in zip(cycles, oracles, strict=True)]
        rollback, switches = self._switch_back_and_forth()
        live = self._live()
        base_run, live_run = self._run(1, self._last), self._run(live, self._last)
        return Report(
            name=self._dataset.name,
            documents=len(self._dataset.documents),
            train_queries=len(self._dataset.train_queries),
            test_queries=len(self._dataset.test_queries),
            zero_shot=self._measure(1, self._last),
            cycles=cycles,
            oracle=oracles[-1],
            attainable=attainable,
            live_version=live,
            live=self._measure(live, self._last),
            seconds=self._place.seconds,
            rollback=rollback,
            examples=pick_examples(self._dataset, base_run, live_run) if live != 1 else [],
            switches=switches,
            pushed=self._pushed(base_run, live_run),
        )

    def _pushed(self, base_run: Run, live_run: Run) -> Pushed | None:
        """
        Where the pushed documents stand for the test queries that they are nearest to, at first and at last.

        Without pushers too: what training does to their ranks anyway is no work of theirs.
        """
        if not self._searchers.pushes:
            return None
        texts = {one.document_id: f"{one.title} {one.text}" for one in self._dataset.documents}
        pairs = [
            (query_id, push.document_id)
            for push in self._searchers.pushes
            for query_id in nearest(
                texts[push.document_id], push.document_id, self._dataset.test_queries, self._dataset.test_qrels
            )
        ]
        return Pushed(mean_rank(base_run, pairs), mean_rank(live_run, pairs), self._searchers.attacked)

    def _load(self) -> None:
        if self._parts.promotion.serving().live_version_id is not None:
            return
        with self._place.timed("load"):
            loaded = load_documents(self._parts.database, self._views[0].documents, self._progress)
            self._tell(loaded.sentence)
            made = make_first_version(self._parts.stages, self._parts.settings.model, self._progress)
            self._tell(made.sentence)

    def _arrive(self, number: int) -> None:
        """Load the documents that come with a cycle, and let every kept version's index follow."""
        if number == 0 or self._views[number] is self._views[number - 1] or self._place.has_arrived(number):
            return
        before = {document.document_id for document in self._views[number - 1].documents}
        new = [document for document in self._views[number].documents if document.document_id not in before]
        with self._place.timed("load"):
            self._tell(load_documents(self._parts.database, new, self._progress).sentence)
            self._tell(follow(self._parts.stages).sentence)
        self._place.note(number, arrived=True)

    def _traffic(self, number: int) -> None:
        """Let the searchers of one cycle search and click."""
        sessions = list(self._searchers.sessions(number))
        if self._place.sessions_done(number) == len(sessions):
            return
        source = self._source()
        sampled = sample(sessions, self._policy.seed, number)
        shown = Shown(self._parts.stages, self._views[number], sampled)
        with self._place.timed("search"):
            traffic = Traffic(self._parts, self._searchers, source, self._place)
            clicks = traffic.run(number, sessions, shown, self._progress)
        source.close()
        self._tell(f"{len(sessions):,} sessions searched and clicked {clicks:,} times, through the {source.name}.")

    def _source(self) -> EventSource:
        """The source under rehearsal; those beside it hold nothing."""
        return self._parts.source_openers()[self._policy.source]()

    def _cycle(self, number: int) -> Cycle:
        done = history.cycles(self._parts.database)
        ended = [row["cycle_id"] for row in done if row["ended_at"] is not None]
        if len(ended) > number:
            return cycle_of(self._parts.database, sorted(ended)[number])
        cycle = begin_cycle(self._parts.database, f"rehearsal, cycle {number + 1}")
        return run_open_cycle(self._parts, cycle, self._progress, self._tell_step)

    def _look_at_trial(self) -> None:
        """What the daemon does every ten minutes: act on what the searchers prefer."""
        with self._place.timed("trial"):
            outcome = check_trial(self._parts.stages, self._parts.clock.now())
        if outcome is not None:
            self._tell(outcome.sentence)

    def _tell_step(self, step: Step, outcome: Outcome, seconds: float) -> None:
        self._place.add_seconds(step, seconds)
        self._tell(outcome.sentence)

    def _cycle_report(self, number: int, cycle: Cycle) -> CycleReport:
        """Measure what came of a cycle, the rejected candidate too, and what was live when it had ended."""
        steps = {row["step"]: row for row in history.steps(self._parts.database, cycle.cycle_id)}
        verdicts = [row["verdict"] for row in steps.values()]
        verdict: Verdict = "failed" if "failed" in verdicts else steps.get("gate", steps["mine"])["verdict"]
        version_id, measure, view = cycle.candidate_version_id, None, self._views[number]
        if version_id in {version.version_id for version in history.versions(self._parts.database)}:
            measure = self._measure(version_id, number)
            self._tell(f"Version {version_id}: NDCG@10 {measure.ndcg:.3f} on {self._on(number)}.")
        live = self._place.live(number)
        if live is None:  # nothing has moved the pointer since the cycle
            live = self._live()
            self._place.note(number, live=live)
        files, exposure = self._parts.stages.files(cycle), self._place.exposure(number)
        return CycleReport(
            version=version_id,
            verdict=verdict,
            triplets=steps["mine"]["numbers"].get("triplets", 0),
            pair_precision=pair_precision(files / "triplets.parquet", view),
            pair_recall=pair_recall(files / "triplets.parquet", view, self._parts.settings.holdout),
            measure=measure,
            live_version=live,
            live=self._measure(live, number),
            zero_shot=self._measure(1, number),
            oracle=None,  # trained once all cycles have ended
            shown_ndcg=exposure.shown_ndcg,
            unexplored_ndcg=exposure.unexplored_ndcg,
            calibration=calibration(files / "judgments.parquet", view),
            documents=len(view.documents),
            test_queries=len(view.test_queries),
        )

    def _run(self, version_id: int, number: int) -> Run:
        """Rank the documents of a cycle for its test queries, also when more have arrived since."""
        view = self._views[number]
        key = (version_id, len(view.documents))
        if key not in self._runs:
            pool = None if view is self._dataset else [document.document_id for document in view.documents]
            with self._place.timed("measure"):
                self._runs[key] = exact_run(self._parts.stages, version_id, view.test_queries, pool, self._progress)
        return self._runs[key]

    def _measure(self, version_id: int, number: int) -> Measure:
        return _measure(self._views[number], self._run(version_id, number))

    def _on(self, number: int) -> str:
        """What a measure of a cycle is on."""
        measured = len(self._views[number].test_queries)
        if measured == len(self._dataset.test_queries):
            return "the test queries"
        return f"the {measured:,} test queries whose documents are there"

    def _oracles(self) -> Sequence[Measure]:
        """The oracle's measure for each cycle; the same wherever the same is there."""
        measures = self._taught(true_pairs(self._dataset), self._views, "oracle")
        self._tell(f"The oracle, trained on every train judgment: NDCG@10 {measures[-1].ndcg:.3f} on the test queries.")
        return measures

    def _attainable(self) -> Measure:
        """The same without the held-out queries, which no version may see."""
        pairs = teachable_pairs(self._dataset, self._parts.settings.holdout)
        (measure,) = self._taught(pairs, self._views[-1:], "oracle_without_held_out")
        self._tell(f"The same without the held-out queries: NDCG@10 {measure.ndcg:.3f}.")
        return measure

    def _taught(self, pairs: Collection[Pair], views: Sequence[Dataset], name: str) -> Sequence[Measure]:
        """Train on these pairs, and measure it on each view."""
        with self._place.timed("oracle"):
            runs = oracle_runs(self._parts, pairs, views, self._parts.home / name, self._progress)
        return [_measure(view, run) for view, run in zip(views, runs, strict=True)]

    def _switch_back_and_forth(self) -> tuple[Rollback | None, list[str]]:
        """Roll back, search, promote again: what an operator would do at night, timed until an answer comes."""
        self._end_a_rollback_that_was_stopped()
        serving = self._parts.promotion.serving()
        if serving.previous_version_id is None or serving.live_version_id is None:
            return None, []
        switches = [row["sentence"] for row in self._promotions()]
        tried = sorted(trials(self._parts.database), key=lambda row: row["trial_id"])
        switches += [row["sentence"] for row in tried if row["verdict"] == "better"]
        began = time.monotonic()
        back = self._parts.promotion.rollback(actor="rehearsal", reason="to show that it works")
        user_query = next(iter(self._dataset.train_queries.values()))
        (answer,) = self._parts.search.search([SearchRequest(user_query=user_query)])
        seconds = time.monotonic() - began
        if answer.version_id != serving.previous_version_id:
            raise FailStep(
                f"After the rollback version {answer.version_id} answered, not {serving.previous_version_id}."
            )
        again = self._parts.promotion.promote(
            serving.live_version_id, actor="rehearsal", reason="it was better; the rollback was to show that it works"
        )
        for outcome in (back, again):
            self._tell(outcome.sentence)
        return Rollback(seconds, answer.version_id), [*switches, back.sentence, again.sentence]

    def _end_a_rollback_that_was_stopped(self) -> None:
        last = history.serving_history(self._parts.database)[0]
        if (last["verb"], last["actor"]) == ("rollback", "rehearsal"):
            self._parts.promotion.promote(
                last["previous_version_id"], actor="rehearsal", reason="the end of a rollback that was stopped"
            )

    def _promotions(self) -> list[Mapping[str, str]]:
        return [
            step
            for cycle in sorted(history.cycles(self._parts.database), key=lambda row: row["cycle_id"])
            for step in history.steps(self._parts.database, cycle["cycle_id"])
            if step["step"] == "promote" and step["verdict"] == "done"
        ]

    def _live(self) -> int:
        live = self._parts.promotion.serving().live_version_id
        assert live is not None  # _load has promoted version 1
        return live


def _measure(dataset: Dataset, run: Run) -> Measure:
    ndcg = ndcg_at_10(dataset.test_qrels, run)
    mean, low, high = mean_interval(list(ndcg.values()), CONFIDENCE)
    return Measure(mean, max(low, 0.0), min(high, 1.0))  # no NDCG lies outside, and one query alone knows no bound
