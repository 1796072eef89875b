"""
What is held against a candidate beside its comparison with live.

In:  the answers of the candidate and of others. Out: objections with their figures, weighed by contest; and what one
would have to know of the candidate's documents.
"""

from collections.abc import Mapping, Sequence
from math import log2
from statistics import fmean
from typing import Any

from relevanced.daemon.anchors import anchors_of, differences, forgotten
from relevanced.daemon.asked import Answers, Asked, answers_of_whole
from relevanced.daemon.gate import GatePolicy, Objection, change, paired_interval
from relevanced.daemon.golden import MOST_WISHES, Wish
from relevanced.daemon.history import kept_versions, lived_before
from relevanced.daemon.metrics import first_ten
from relevanced.daemon.ports import Progress
from relevanced.daemon.stages import Stages

SURE = 0.95  # of the interval, both ends, by which an objection is proven
WISHED = 5  # of a version's documents for a query: what is shown first weighs most
EARLIER = 5  # versions that were live before, and are still kept


def before_live(stages: Stages, asked: Asked, live_id: int, progress: Progress) -> list[Answers]:
    """
    Let versions that were live before answer too, without the reranker, which takes longer than all else.

    Each promotion may lose what no single comparison tells from luck; many in a row would drift away unseen.
    """
    return answers_of_whole(stages, asked, earlier_versions(stages, live_id), None, progress)


def earlier_versions(stages: Stages, live_id: int) -> list[int]:
    """Versions that were live before and are still kept, the latest first."""
    kept = {version.version_id for version in kept_versions(stages.database)}
    return [number for number in lived_before(stages.database) if number in kept and number != live_id][:EARLIER]


def worse_than_before(
    asked: Asked, candidate: Answers, earlier: Sequence[Answers]
) -> tuple[list[Objection], dict[str, dict[str, Any]]]:
    """Object where the candidate is worse than what was live once; give the differences by version too."""
    objections, found = [], {}
    mine = asked.deciding(candidate.measures["ndcg@10"])
    for other in earlier:
        theirs = asked.deciding(other.measures["ndcg@10"])
        difference = paired_interval(mine, theirs, asked.weights, SURE)
        found[str(other.version_id)] = difference._asdict()
        if difference.high < 0:
            against = f"against version {other.version_id}, which was live before, {change(*difference)}"
            objections.append(Objection(f"version {other.version_id}", proven=True, sentence=against))
    return objections, found


def worse_reranked(asked: Asked, candidate: Answers, live: Answers) -> tuple[list[Objection], dict[str, float] | None]:
    """Object where the candidate is worse behind the team's reranker; give the difference too, None without one."""
    if not candidate.reranked_ndcg:
        return [], None
    difference = paired_interval(candidate.reranked_ndcg, live.reranked_ndcg, asked.weights, SURE)
    behind = Objection("reranked", proven=True, sentence=f"behind the reranker {change(*difference)}")
    return [behind] if difference.high < 0 else [], difference._asdict()


def worse_on_anchors(
    asked: Asked, candidate: Answers, live: Answers, before: Sequence[Answers], policy: GatePolicy
) -> tuple[list[Objection], dict[str, Any] | None]:
    """
    Object where anchors among the deciding queries lose more than is borne; give the difference from live too.

    Args:
        before: the base version and those that were live before; the anchors are what they and live answer well.
    """
    answers = [asked.deciding(one.measures["ndcg@10"]) for one in (live, *before)]
    anchors = anchors_of(answers, policy.anchor_ndcg)
    if not anchors:
        return [], None
    mine, lives = ({query: one.measures["ndcg@10"][query] for query in anchors} for one in (candidate, live))
    difference = paired_interval(mine, lives, asked.weights, SURE)
    against = {f"live {live.version_id}": difference}
    objections = forgotten("anchors", "anchors", against, len(anchors), policy.max_anchor_loss)
    return objections, {"queries": len(anchors), **difference._asdict()}


def worse_in_general(
    candidate_id: int, live_id: int, base_id: int, general: Mapping[int, Mapping[str, float]], policy: GatePolicy
) -> tuple[list[Objection], dict[str, Any] | None]:
    """
    Object where the candidate has unlearned what the general set asks; give the differences from base and live too.

    Args:
        general: version -> query -> NDCG@10; empty without a general set.
    """
    if not general:
        return [], None
    mine = general[candidate_id]
    others = {f"base version {base_id}": general[base_id]}
    if live_id != base_id:
        others[f"live {live_id}"] = general[live_id]
    found = differences(mine, others, dict.fromkeys(mine, 1.0))
    numbers = {
        "queries": len(mine),
        "ndcg@10": fmean(mine.values()),
        "against": {other: one._asdict() for other, one in found.items()},
    }
    return forgotten("general", "queries of the general set", found, len(mine), policy.max_general_loss), numbers


def wanted(asked: Asked, candidate: Answers, live: Answers, k: int) -> list[Wish]:
    """
    Ask for what nobody has judged among the first documents, that first which may change the next verdict most.

    Of both versions alike: who knows more of one's documents than of the other's finds that one better. Queries that no
    relevant document is known of are asked about too: where live fails, nobody could click what a candidate finds.

    Args:
        k: actors who must have typed a query before experts read it.
    """
    texts = {**asked.deciding(asked.texts), **asked.unanswered}
    gains: dict[tuple[str, str], float] = {}
    for answers in (candidate, live):
        runs = {**answers.run, **answers.unanswered}
        for query, text in texts.items():
            if asked.actors[query] < k:
                continue
            for rank, name in enumerate(first_ten(runs[query])[:WISHED], start=1):
                if name not in asked.judged.get(query, ()):
                    # A relevant one at this rank adds its discount, to an ideal that is 1 for one relevant document.
                    gain = asked.weights.get(query, 1.0) / log2(rank + 1)
                    gains[text, name] = max(gain, gains.get((text, name), 0.0))
    wishes = [Wish(text, name, gain) for (text, name), gain in gains.items()]
    return sorted(wishes, key=lambda one: (-one.gain, one.user_query, one.document_id))[:MOST_WISHES]
