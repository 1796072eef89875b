"""
The step gate: candidate against live on the held-out queries.

In:  what is asked, and how the versions answer. Out: a verdict with its interval, slices and objections. Both arms are
ranked exactly over the same documents. The candidate's vectors go into its own table at once, so that a promotion does
not encode them again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from relevanced import sql
from relevanced.daemon.anchors import remembered
from relevanced.daemon.asked import Answers, Asked, answers_of, answers_of_whole, asked_of, reranking_of
from relevanced.daemon.calibration import calibrate
from relevanced.daemon.errors import FailStep
from relevanced.daemon.gate import (
    Comparison,
    GatePolicy,
    better_known,
    by_golden,
    compare,
    golden_harm,
    paired_interval,
    weigh,
    with_unjudged,
)
from relevanced.daemon.general import general_ndcg
from relevanced.daemon.golden import wish
from relevanced.daemon.history import first_number, kept_candidates, note_metrics, versions
from relevanced.daemon.holdout_use import note_use
from relevanced.daemon.metrics import MEASURES, weighted_mean
from relevanced.daemon.objections import (
    SURE,
    before_live,
    wanted,
    worse_in_general,
    worse_on_anchors,
    worse_reranked,
    worse_than_before,
)
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import cluster_key
from relevanced.daemon.records import Cycle, Outcome
from relevanced.daemon.slices import harmed, slices_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.tryout import gives_way, next_level, open_trial
from relevanced.daemon.unjudged import unjudged_bounds
from relevanced.daemon.worth import said_of_both, worth_its_reindex

WORST = 5  # queries listed


@dataclass(frozen=True, slots=True)
class Contest:
    """A candidate against live: what was found, and all figures."""

    answers: Answers
    found: Comparison
    numbers: dict[str, Any]

    @property
    def version_id(self) -> int:
        """The candidate's."""
        return self.answers.version_id


def gate(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """
    Let both versions answer every held-out query, and say whether the candidate may go on.

    The verdict is that of the queries held out by their hash, which no version was ever trained on. A candidate that an
    earlier cycle has kept, since it took more queries to tell, is judged beside it when there are as many; so is the
    adapter that this cycle has trained, and what needs a re-index must be worth it. What follows is written at the end
    and at once, so that an attempt which was killed has decided nothing.
    """
    live_id, candidate_id = stages.promotion.serving().live_version_id, cycle.candidate_version_id
    if live_id is None or candidate_id is None:
        raise FailStep("The gate needs a live version and a candidate; `relevanced status` shows which is missing.")
    asked = asked_of(stages, cycle, live_id)
    queries = asked.deciding(asked.qrels)
    adapters = {version.version_id for version in versions(stages.database) if version.index_version_id}
    fresh = dict.fromkeys([candidate_id, *adapters.intersection([cycle.adapter_version_id])])
    kept = [version for version in kept_candidates(stages.database) if version.version_id not in fresh]
    awaited = {version.version_id: version.manifest["metrics"] for version in kept}
    due = [
        number
        for number, metrics in awaited.items()
        if metrics["against"] == live_id and len(queries) >= metrics["enough_queries"]
    ]
    reranking = reranking_of(stages)
    live = answers_of(stages, asked, live_id, reranking, progress)
    earlier = before_live(stages, asked, live_id, progress)
    base = _base(stages, asked, [live, *earlier], progress)
    candidates = [answers_of(stages, asked, number, reranking, progress) for number in fresh]
    candidates += answers_of_whole(stages, asked, due, reranking, progress)
    asked_in_general = [base.version_id, live_id, *(one.version_id for one in candidates)]
    general = general_ndcg(stages, asked_in_general, progress)
    contests = [
        contest_between(
            asked,
            mine,
            live,
            earlier,
            stages.gate,
            next_level(stages, cycle.cycle_id, test),
            stages.privacy.k,
            base=base,
            general=general,
        )
        for test, mine in enumerate(candidates, start=1)
    ]
    measured = {one.version_id: _for_manifest(one, live_id, base) for one in contests}
    numbers = {
        "tests": len(contests) if max(len(queries), len(asked.golden_qrels)) >= stages.gate.min_queries else 0,
        **note_use(stages.database, cycle.cycle_id, {cluster_key(query) for query in queries}),
    }
    wish(stages.database, wanted(asked, candidates[0], live, stages.privacy.k))

    first, remark = _foremost(asked, contests, adapters, stages)
    remark += remembered(first.numbers["anchors"], first.numbers["general"])
    numbers = {**first.numbers, **numbers}
    if first.found.verdict == "accepted":
        _settle(stages, cycle, measured, {*fresh, *awaited} - {first.version_id}, first.version_id)
        return Outcome(first.found.sentence + remark, numbers, "accepted")
    enough = {
        number: metrics["enough_queries"]
        for number, metrics in awaited.items()
        if number not in due and metrics["against"] == live_id
    }
    enough |= {one.version_id: one.found.enough for one in contests if one.found.enough}
    if first.found.verdict == "inconclusive" and stages.trial.share:
        running = open_trial(stages.database)
        if running is None or gives_way(stages, running):
            _settle(stages, cycle, measured, {*fresh, *awaited} - {first.version_id} - enough.keys())
            return Outcome(f"{first.found.sentence}{remark} People will tell, in a trial.", numbers, "trial")
    soonest = min(enough, key=lambda number: enough[number], default=None)
    _settle(stages, cycle, measured, {*fresh, *awaited} - {soonest})
    if soonest:
        remark += f" Version {soonest} is kept until {enough[soonest]:,} held-out queries tell more."
    return Outcome(first.found.sentence + remark, numbers, first.found.verdict)


def _foremost(
    asked: Asked, contests: Sequence[Contest], adapters: Collection[int], stages: Stages
) -> tuple[Contest, str]:
    """
    Of all that were judged, give what the verdict is about: the first that was accepted, else the first.

    Where an adapter was judged beside what needs a re-index, it is that of the two which is worth going on with; then a
    remark says how they compare.
    """
    accepted = [one for one in contests if one.found.verdict == "accepted"]
    ordered = [*accepted, *contests]
    full = next((one for one in ordered if one.version_id not in adapters), None)
    adapter = next((one for one in ordered if one.version_id in adapters), None)
    if full is None or adapter is None:
        return ordered[0], ""
    mine, its = (asked.deciding(one.answers.measures["ndcg@10"]) for one in (full, adapter))
    between = paired_interval(mine, its, asked.weights, stages.gate.confidence)
    worth = worth_its_reindex(full.found, adapter.found, between, stages.adapter)
    first = (full if worth else adapter) if accepted else contests[0]
    compared = {"version": adapter.version_id, "full_version": full.version_id, "verdict": adapter.found.verdict}
    first.numbers["adapter"] = {**compared, "full_against_it": between._asdict()}
    said = said_of_both((full.version_id, full.found), (adapter.version_id, adapter.found), between, stages.adapter)
    return first, said


def _base(stages: Stages, asked: Asked, answers: Sequence[Answers], progress: Progress) -> Answers:
    """How the base version answers, whose scale scores are mapped to; mostly it has answered already."""
    number = first_number(stages.database)
    assert number is not None  # the first of those that there are
    known = next((one for one in answers if one.version_id == number), None)
    return known or answers_of(stages, asked, number, None, progress)


def contest_between(
    asked: Asked,
    candidate: Answers,
    live: Answers,
    earlier: Sequence[Answers],
    policy: GatePolicy,
    level: float,
    k: int,
    *,
    base: Answers,
    general: Mapping[int, Mapping[str, float]],
) -> Contest:
    """
    Judge by the answers alone.

    Args:
        earlier: of versions that were live before.
        level: how likely luck may decide; see error_budget.
        k: actors who must have typed a query before its words are shown.
        base: of the base version. general: see objections.worse_in_general.
    """
    mine, lives = (asked.deciding(arm.measures["ndcg@10"]) for arm in (candidate, live))
    judged = candidate.judged_at_10, live.judged_at_10
    against = partial(compare, policy=policy, level=level, candidate=candidate.version_id, live=live.version_id)
    alone = against(candidate.among_judged, live.among_judged, asked.weights)
    found = against(mine, lives, asked.weights)
    measures = candidate.measures, live.measures
    slices = slices_of(*measures, asked.weights, asked.kinds)
    recent = slices_of(*measures, asked.weights, [asked.recent] if len(set(asked.recent.values())) > 1 else [])
    worse, before = worse_than_before(asked, candidate, earlier)
    known = better_known(alone, judged)
    behind, reranked = worse_reranked(asked, candidate, live)
    lost, anchors = worse_on_anchors(asked, candidate, live, [base, *earlier], policy)
    objections = [*harmed(slices, policy), *worse, *behind, *lost, *([known] if known else [])]
    if len(mine) < policy.min_queries:  # so few say as little against a candidate as for it
        objections = []
    alike = dict.fromkeys(live.golden_ndcg, 1.0)
    golden = against(candidate.golden_ndcg, live.golden_ndcg, alike, what="golden queries")
    harm = golden_harm(paired_interval(candidate.golden_ndcg, live.golden_ndcg, alike, SURE), golden.queries)
    objections += [harm] if harm else []
    unlearned, in_general = worse_in_general(candidate.version_id, live.version_id, base.version_id, general, policy)
    objections += unlearned
    found = with_unjudged(found, alone, judged, candidate=candidate.version_id)
    found = by_golden(found, golden, policy, candidate=candidate.version_id)
    found = weigh(found, objections, candidate=candidate.version_id)
    numbers = {
        "ndcg@10": weighted_mean(mine, asked.weights),
        "live_ndcg@10": weighted_mean(lives, asked.weights),
        **found.numbers(),
        "level": level,
        "judged@10": judged[0],
        "live_judged@10": judged[1],
        "unjudged": _unjudged(asked, candidate, live),
        "measures": {name: _measure(asked, candidate, live, name, policy.confidence) for name in MEASURES},
        "slices": slices | recent,
        "before": before,
        "golden": golden.numbers() if golden.queries else None,
        "reranked": reranked,
        "anchors": anchors,
        "general": in_general,
        "objections": [one.reason for one in objections],
        "worst_hit": _worst_hit(asked, mine, lives, k),
    }
    return Contest(candidate, found, numbers)


def _unjudged(asked: Asked, candidate: Answers, live: Answers) -> dict[str, float]:
    qrels = asked.deciding(asked.qrels)
    return unjudged_bounds(qrels, asked.judged, candidate.run, live.run, asked.weights).numbers()


def _measure(asked: Asked, candidate: Answers, live: Answers, name: str, confidence: float) -> dict[str, float]:
    mine, lives = (asked.deciding(arm.measures[name]) for arm in (candidate, live))
    return paired_interval(mine, lives, asked.weights, confidence)._asdict()


def _worst_hit(asked: Asked, mine: dict[str, float], lives: dict[str, float], k: int) -> list[dict[str, Any]]:
    """The queries that lose most, of those whose words may be shown."""
    losses = {query: mine[query] - lives[query] for query in mine if asked.actors[query] >= k}
    worst: Sequence[str] = sorted(losses, key=lambda query: (losses[query], query))[:WORST]
    return [{"user_query": asked.texts[query], "difference": losses[query]} for query in worst if losses[query] < 0]


def _for_manifest(contest: Contest, live_id: int, base: Answers) -> dict[str, Any]:
    """What a version's manifest keeps of its gate."""
    scale = calibrate(contest.answers.run, base.run, base.version_id)
    return {**contest.numbers, "calibration": scale and scale.numbers(), "against": live_id}


def _settle(
    stages: Stages,
    cycle: Cycle,
    measured: Mapping[int, Mapping[str, Any]],
    rejected: Collection[int],
    accepted: int | None = None,
) -> None:
    """
    Write what was measured and what follows, all of it or nothing: half of it would leave a version that nobody awaits.

    Args:
        measured: version -> what its manifest keeps.
        accepted: the cycle's candidate from now on, which an earlier cycle may have trained; None: as it was.
    """
    with stages.database.connection() as connection:
        for number, metrics in measured.items():
            note_metrics(connection, number, metrics)
        if accepted:
            row = {"cycle_id": cycle.cycle_id, "version_id": accepted}
            connection.execute(sql.postgres["replace_candidate"], row)
        for number in sorted(rejected):
            connection.execute(sql.postgres["set_version_state"], {"version_id": number, "state": "rejected"})
