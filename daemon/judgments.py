"""
Judgments from what people did, free of position bias.

In:  EVIDENCE, RANKS and the ClickModel that was fitted to them. Out: JUDGMENTS (query, document, grade = P(relevant),
weight, evidence); read by holdout, triplets and the gate.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betainc, logit

from relevanced.daemon.click_model import ClickModel
from relevanced.daemon.pairs import PLACES, POSITIONS, Floats, Integers, Pairs, gather, sums
from relevanced.daemon.signals import CLICK

_NO_RANKS: Final = pa.table(
    {"query_key": pa.array([], pa.string()), "document_id": pa.array([], pa.string()), "rank": pa.array([], pa.int32())}
)


def judge(evidence: pa.Table, ranks: pa.Table, model: ClickModel) -> pa.Table:
    """
    Judge every pair that was shown.

    Returns: JUDGMENTS. grade: P(relevant | prior by rank, all that was done and not done). prior: what it was before
        any of that. pushed: P(pushed), a part of what is not relevant. weight: how sure the evidence alone makes one,
        |2 P(relevant | even prior, evidence) - 1|: 0 for a pair that nobody examined or whose evidence cancels out, 1
        at most. log_odds: log P(evidence | R = 1) - log P(evidence | R = 0), which a grade or weight of 1 no longer
        tells. expected_clicks: sum over its impressions of theta_k a_1, the clicks that a relevant document would have
        drawn at the same places; skipped is what has far fewer. inclusion: P(grade of .5 or more | R = 1, where and how
        often it was shown): how likely such a document is found by its clicks at all. places and responses: the
        evidence, by place, with P(examined) there, and by what was done.
    """
    return judge_pairs(gather(evidence, ranks, len(model.priors) - 1), model)


def judge_pairs(pairs: Pairs, model: ClickModel) -> pa.Table:
    """As judge, of evidence that is gathered, as it was to fit the model."""
    examination = model.examined(pairs)[pairs.place]
    log_odds = model.log_odds(pairs)
    posterior = model.posterior(pairs)
    examined = (pairs.clicks + pairs.skips) * examination
    expected = model.click_rates[1] * sums(pairs.pair, examined, len(pairs))
    return pa.table(
        {
            "query_key": pairs.names["query_key"],
            "document_id": pairs.names["document_id"],
            "grade": posterior[1],
            "prior": model.priors[pairs.prior],
            "weight": np.abs(np.tanh(log_odds / 2)),
            "log_odds": log_odds,
            "shown": pairs.names["shown"],
            "clicks": pairs.names["clicks"],
            "expected_clicks": expected,
            "pushed": posterior[2],
            "inclusion": _inclusion(pairs, model, expected),
            **_evidence(pairs, examination),
            "source": pa.repeat("clicks", len(pairs)),
        }
    )


def judge_naively(evidence: pa.Table) -> pa.Table:
    """
    Judge as most pipelines do: what was clicked is relevant, what was shown and not clicked is not.

    Returns: JUDGMENTS; each is sure, and each showing counts as examined.
    """
    if "response" in evidence.column_names:  # clicks and nothing else
        clicked = pc.fill_null(pc.starts_with(evidence["response"], CLICK), True)
        evidence = evidence.filter(pc.and_(clicked, pc.greater(evidence["position"], 0)))
    pairs = gather(evidence, _NO_RANKS, 0)
    count = len(pairs)
    grade = (pairs.names["clicks"].to_numpy() > 0).astype(np.float64)
    return pa.table(
        {
            "query_key": pairs.names["query_key"],
            "document_id": pairs.names["document_id"],
            "grade": grade,
            "prior": np.full(count, 0.5),
            "weight": np.ones(count),
            "log_odds": np.where(grade > 0, np.inf, -np.inf),
            "shown": pairs.names["shown"],
            "clicks": pairs.names["clicks"],
            "expected_clicks": pairs.names["shown"],
            "pushed": np.zeros(count),
            "inclusion": np.ones(count),
            **_evidence(pairs, np.ones(len(pairs.place))),
            "source": pa.repeat("clicks", count),
        }
    )


def _evidence(pairs: Pairs, examination: Floats) -> Mapping[str, pa.Array]:
    """
    What each judgment rests on, lists of as many records as there are.

    places: surface, after_click, position, propensity (P(examined) there), shown, clicks. responses: response, actors.
    """
    surfaces = pa.array(pairs.surfaces, pa.string()).take(pa.array(pairs.place // PLACES))
    places = {
        "surface": surfaces,
        "after_click": pairs.place % PLACES >= POSITIONS,
        "position": pa.array(pairs.place % POSITIONS + 1, pa.int32()),
        "propensity": examination,
        "shown": pairs.clicks + pairs.skips,
        "clicks": pairs.clicks,
    }
    names = pa.array(pairs.responses, pa.string()).take(pa.array(pairs.response))
    return {
        "places": _lists(pairs.pair, places, len(pairs)),
        "responses": _lists(pairs.answered, {"response": names, "actors": pairs.actors}, len(pairs)),
    }


def _lists(pair: Integers, columns: Mapping[str, Any], pairs: int) -> pa.Array:
    """One list of records for each pair; `pair` says whose each record is, in order."""
    records = pa.StructArray.from_arrays([pa.array(column) for column in columns.values()], list(columns))
    ends = np.searchsorted(pair, np.arange(pairs + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), records)


def _inclusion(pairs: Pairs, model: ClickModel, expected_clicks: Floats) -> Floats:
    """
    P(grade of .5 or more | R = 1) of each pair, (pairs,).

    A grade of .5 takes a number of clicks that follows from prior and skips; a relevant document's clicks are taken as
    binomial over its impressions, which they are where these are all at one position, and each as saying what doing
    anything says.
    """
    shown = np.maximum(pairs.names["shown"].to_numpy().astype(np.float64), 1.0)
    of_click = np.log(model.click_rates[1] / model.click_rates[0])
    of_skip = model.of_skip(model.examined(pairs))[pairs.place]
    all_skipped = sums(pairs.pair, (pairs.clicks + pairs.skips) * of_skip, len(shown))
    prior = logit(model.priors)[pairs.prior]
    needed = np.ceil(-(prior + all_skipped) / (of_click - all_skipped / shown))
    found = betainc(np.clip(needed, 1, shown), shown - np.clip(needed, 1, shown) + 1, expected_clicks / shown)
    return np.where(needed <= 0, 1.0, np.where(needed > shown, 0.0, found))


def beyond_doubt(pairs: Collection[tuple[str, str]]) -> pa.Table:
    """Give pairs of query_key and document_id that are known to be relevant in the form of judgments from clicks."""
    names, count = sorted(pairs), len(pairs)
    return pa.table(
        {
            "query_key": pa.array([key for key, _ in names], pa.string()),
            "document_id": pa.array([document_id for _, document_id in names], pa.string()),
            "grade": pa.array([1.0] * count),
            "weight": pa.array([1.0] * count),
            "shown": pa.array([0] * count, pa.int64()),
            "clicks": pa.array([0] * count, pa.int64()),
            "expected_clicks": pa.array([0.0] * count),
            "inclusion": pa.array([1.0] * count),
            "source": pa.array(["experts"] * count),
        }
    )
