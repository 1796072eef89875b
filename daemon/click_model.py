"""
The click model: how likely each place is looked at, and how likely each document is relevant, from each other.

In:  Pairs of the evidence. Out: ClickModel; read by judgments and identification.

A pair of query and document is relevant or not, R, once and for all its impressions. At place k it is examined with
probability theta_k, and when examined something is done with it, with probability a_R: P(click | k, R) = theta_k a_R.
A place is a position, of one surface, with or without a click further up: who has found something reads on less, which
is what separates a cascade from a page that is skimmed (the user browsing model of Dupret and Piwowarski, SIGIR 2008,
with two distances). What is done, a click, a purchase, a downvote, depends on R too. As a pair keeps its R wherever
it is shown, the evidence of its sessions multiplies, and one pair at two positions (swapped, or ranked by two versions)
tells their examination apart: intervention harvesting (Agarwal et al., arXiv:1812.05161) without a step of its own.
Fitted by EM after Wang et al. (WSDM 2018), with one R per pair instead of one per impression, and the models' rank as
the feature. theta_1 is 1: people who look at nothing lower a_0 and a_1, and no grade.

Beside relevant and other documents there are pushed ones: a part of those who see them click them wherever they stand,
more often than anybody looks there. No relevance explains that, so it is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit, logsumexp, softmax

from relevanced.daemon.acceleration import Anderson
from relevanced.daemon.pairs import POSITIONS, Floats, Pairs, sums
from relevanced.daemon.signals import CLICK, LIFTS, SignalPolicy

_INNER_STEPS: Final = 10  # cost nothing beside the pass over the cells, and save some of those
_PUSHERS: Final = (0.1, 0.25, 0.5, 0.8)  # shares of a pushed pair's actors that push it; each as likely
_MOST_PUSHED: Final = 0.02  # of the pairs; more of them are no attack, and the model is wrong about something else
_LEAST_LIFT: Final = 1.5  # of a_1 over a_0; nearer, clicks say nothing, and the two could change places


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickModelPolicy:
    """How much the click model believes before it has seen traffic, and when it stops."""

    # Examinations at each position that the start, 1/position, counts for: with less traffic it stays near the start.
    propensity_pseudo_count: Annotated[float, Gt(0)] = 10.0
    # Impressions that the curve of all places counts for at each position of a surface, and without or below a click:
    # where people read as the model assumes, telling these apart costs half as much again in error at 100.
    surface_pseudo_count: Annotated[float, Gt(0)] = 1000.0
    # Examinations that the starts of both click rates count for.
    click_rate_pseudo_count: Annotated[float, Gt(0)] = 20.0
    # Pairs that each rank borrows from all ranks: a rank seen in few queries has no prior of its own.
    rank_pseudo_count: Annotated[float, Gt(0)] = 5.0
    # Share of the pairs that is believed to be pushed before the log says more, and pairs that this counts for.
    pushed_share: Annotated[float, Interval(ge=0, lt=1)] = 0.0005
    pushed_pseudo_count: Annotated[float, Gt(0)] = 1000.0
    # naive takes every click at face value: who wants to see in a rehearsal what that comes to, and nobody else.
    method: Literal["pbm", "naive"] = "pbm"
    max_iterations: Annotated[int, Ge(1)] = 300
    tolerance: Annotated[float, Gt(0)] = 1e-4  # largest change of a propensity or click rate in one iteration


@dataclass(frozen=True, slots=True)
class ClickModel:
    """
    The fitted model.

    examination: float64 (surfaces, 2, 50), P(examined) by surface, click further up or not, and position.
    propensities: float64 (50,), that of all surfaces together, without a click further up; the first is 1.
    click_rates: float64 (2,), P(anything is done | examined) with other and with relevant documents.
    priors: float64 (deepest rank + 1,), P(relevant) by the models' rank; the last for documents without one.
    lifts: what is done -> P(it | examined, relevant) / P(it | examined, other).
    pushed: P(pushed) of a pair before it is seen.
    """

    propensities: Floats
    click_rates: Floats
    priors: Floats
    iterations: int
    lifts: Mapping[str, float] = field(default_factory=dict)
    examination: Floats | None = None
    pushed: float = 0.0

    def lift(self, response: str) -> float:
        """The lift of a response; one that the model never saw says what doing anything says."""
        return self.lifts.get(response, float(self.click_rates[1] / self.click_rates[0]))

    def examined(self, pairs: Pairs) -> Floats:
        """P(examined) of each place of these pairs, (surfaces * PLACES,)."""
        if self.examination is None:
            return np.tile(self.propensities, 2 * len(pairs.surfaces))
        return self.examination.reshape(-1)

    def of_skip(self, examined: Floats) -> Floats:
        """What a skip adds to the log odds of R, by place; never above 0."""
        other, relevant = self.click_rates
        added: Floats = np.log1p(-relevant * examined) - np.log1p(-other * examined)
        return added

    def log_odds(self, pairs: Pairs) -> Floats:
        """
        log P(evidence | R = 1) - log P(evidence | R = 0), (pairs,).

        The log theta_k of a click is the same under both and falls out: where a click happened says nothing, only that
        it did. A skip says the less the less its place is examined.
        """
        of_response = np.log([self.lift(name) for name in pairs.responses])
        odds: Floats = pairs.skipped @ self.of_skip(self.examined(pairs)) + pairs.did @ of_response
        return odds

    def log_odds_pushed(self, pairs: Pairs) -> Floats:
        """log P(clicks and skips | pushed) - log P(clicks and skips | R = 0), (pairs,)."""
        rate = self.click_rates[0] * self.examined(pairs)
        odds = []
        for share in _PUSHERS:
            pushed = share + (1 - share) * rate
            of_click, of_skip = np.log(pushed / rate), np.log1p(-pushed) - np.log1p(-rate)
            odds.append(pairs.clicked @ of_click + pairs.skipped @ of_skip)
        mixed: Floats = logsumexp(odds, axis=0) - np.log(len(odds))
        return mixed

    def posterior(self, pairs: Pairs) -> Floats:
        """P(other), P(relevant), P(pushed) of each pair, (3, pairs)."""
        prior = self.priors[pairs.prior]
        odds = [np.log1p(-prior), np.log(prior) + self.log_odds(pairs)]
        if not self.pushed:
            both: Floats = softmax(np.stack(odds), axis=0)
            return np.vstack([both, np.zeros(len(pairs))])
        of_pushed = logit(self.pushed) + self.log_odds_pushed(pairs)
        three: Floats = softmax(np.stack([*odds, of_pushed]), axis=0)
        return three


def fit_pairs(pairs: Pairs, deepest: int, policy: ClickModelPolicy, signals: SignalPolicy) -> ClickModel:
    """
    Estimate propensities, click rates, lifts and priors together; without evidence they stay as they start.

    Args:
        deepest: the deepest rank that the pairs were gathered with.
    """
    start = _start(deepest, pairs, signals)
    # Pushed documents come last: before the curve is known, all that is clicked far down would look pushed.
    first = _converge(pairs, start, start, replace(policy, pushed_share=0.0), signals)
    return _converge(pairs, replace(first, pushed=policy.pushed_share), start, policy, signals)


def refit(pairs: Pairs, model: ClickModel, policy: ClickModelPolicy, signals: SignalPolicy) -> ClickModel:
    """Fit to other pairs, or a part of them, from a model that is near already."""
    return _converge(pairs, model, _start(len(model.priors) - 1, pairs, signals), policy, signals)


def _converge(
    pairs: Pairs, model: ClickModel, start: ClickModel, policy: ClickModelPolicy, signals: SignalPolicy
) -> ClickModel:
    anderson, before = Anderson(), model
    for _ in range(policy.max_iterations):
        after = _maximise(pairs, before.posterior(pairs), before, start, policy, signals)
        if _largest_change(before, after) < policy.tolerance:
            return after
        before = _moved(after, anderson.propose(_coordinates(before), _coordinates(after)))
    return after


def _coordinates(model: ClickModel) -> Floats:
    """What an iteration estimates, as one vector without bounds: logarithms, of probabilities their logits."""
    assert model.examination is not None  # that of a fit
    probabilities = [model.click_rates, model.priors, np.array([model.pushed])]
    logits = logit(np.clip(np.concatenate(probabilities), 1e-12, 1 - 1e-12))
    return np.concatenate([np.log([*model.examination.ravel(), *model.lifts.values()]), logits])


def _moved(model: ClickModel, coordinates: Floats) -> ClickModel:
    """Put the model where the vector says, within its bounds; what the vector leaves out stays."""
    assert model.examination is not None
    sizes = np.cumsum([model.examination.size, len(model.lifts), len(model.click_rates), len(model.priors)])
    examined, lifts, rates, priors, pushed = np.split(coordinates, sizes)
    examination = np.minimum(np.exp(examined), 1.0).reshape(model.examination.shape)
    return replace(
        model,
        examination=examination,
        lifts=dict(zip(model.lifts, np.exp(lifts).tolist(), strict=True)),
        click_rates=np.array([min(expit(rates[0]), expit(rates[1]) / _LEAST_LIFT), expit(rates[1])]),
        priors=expit(priors),
        pushed=float(min(expit(pushed[0]), _MOST_PUSHED)) if model.pushed else 0.0,
    )


def _start(deepest: int, pairs: Pairs, signals: SignalPolicy) -> ClickModel:
    """What is believed before any traffic, and what every estimate is drawn towards."""
    propensities = 1 / np.arange(1, POSITIONS + 1)
    return ClickModel(
        propensities=propensities,
        click_rates=np.array([0.05, 0.05 * LIFTS[CLICK]]),
        priors=0.5 / np.arange(1, deepest + 2),
        iterations=0,
        lifts={name: signals.lifts.get(name, LIFTS[CLICK]) for name in pairs.responses},
        examination=np.tile(propensities, (len(pairs.surfaces), 2, 1)),
    )


def _maximise(
    pairs: Pairs,
    posterior: Floats,
    model: ClickModel,
    start: ClickModel,
    policy: ClickModelPolicy,
    signals: SignalPolicy,
) -> ClickModel:
    """Fit the model to the pairs' posterior, (3, pairs); whether a skipped impression was examined is latent too."""
    clicks, skips = posterior[:2] @ pairs.clicked, posterior[:2] @ pairs.skipped  # (2, places) each
    examination, click_rates = model.examined(pairs), model.click_rates
    common, some = model.propensities, policy.click_rate_pseudo_count
    for _ in range(_INNER_STEPS):
        rates = click_rates[:, None]
        examined = clicks + skips * examination * (1 - rates) / (1 - examination * rates)
        common, examination = _curves(examined.sum(axis=0), (clicks + skips).sum(axis=0), start, policy)
        click_rates = (clicks.sum(axis=1) + some * start.click_rates) / (examined.sum(axis=1) + some)
        click_rates[0] = min(click_rates[0], click_rates[1] / _LEAST_LIFT)
    known = np.bincount(pairs.prior, minlength=len(start.priors)) + policy.rank_pseudo_count
    found = sums(pairs.prior, posterior[1], len(start.priors)) + policy.rank_pseudo_count * start.priors
    priors = isotonic_regression(found / known, weights=known, increasing=False).x
    lifts = _lifts(pairs, posterior[:2], click_rates, start, signals.pseudo_count)
    return replace(
        model,
        propensities=common,
        examination=examination.reshape(-1, 2, POSITIONS),
        click_rates=click_rates,
        priors=priors,
        iterations=model.iterations + 1,
        lifts=lifts,
        pushed=_pushed(posterior[2], policy),
    )


def _curves(examined: Floats, shown: Floats, start: ClickModel, policy: ClickModelPolicy) -> tuple[Floats, Floats]:
    """
    Estimate the curve without a click further up, (50,), and that of each place, (places,); each is drawn towards the
    one of what it is a part of.

    Args:
        examined, shown: impressions by place, (places,).
    """
    few, some = policy.propensity_pseudo_count, policy.surface_pseudo_count
    examined, shown = examined.reshape(-1, 2, POSITIONS), shown.reshape(-1, 2, POSITIONS)
    all_of_it = (examined.sum(axis=(0, 1)) + few * start.propensities) / (shown.sum(axis=(0, 1)) + few)
    curves = (examined.sum(axis=0) + some * all_of_it) / (shown.sum(axis=0) + some)
    curves[0, 0] = 1.0  # the scale; only rounding would move it
    if len(shown) == 1:
        return curves[0], curves.reshape(-1)
    own = (examined + some * curves) / (shown + some)
    return curves[0], np.minimum(own, 1.0).reshape(-1)


def _pushed(posterior: Floats, policy: ClickModelPolicy) -> float:
    """Estimate how many pairs are pushed."""
    few = policy.pushed_pseudo_count
    share = (posterior.sum() + few * policy.pushed_share) / (len(posterior) + few)
    return float(min(share, _MOST_PUSHED)) if policy.pushed_share else 0.0


def _lifts(
    pairs: Pairs, shares: Floats, click_rates: Floats, start: ClickModel, pseudo_count: float
) -> Mapping[str, float]:
    """
    Estimate what each response says: that anything was done, and that it was this of all that could be.

    The start of a kind is believed for `pseudo_count` of its actions, parted between relevant and other documents as
    its lift says, so a rare kind stays near its start however many clicks there are.
    """
    kinds = len(pairs.responses)
    done = shares @ pairs.did
    lifts = np.array([start.lifts[name] for name in pairs.responses])
    other, relevant = done.sum(axis=1) + 1e-9  # where nothing was done yet, as the lifts say
    believed = lifts * relevant / (lifts * relevant + LIFTS[CLICK] * other) if kinds else lifts
    done += pseudo_count * np.stack([1 - believed, believed])
    chosen = done / done.sum(axis=1, keepdims=True)  # P(kind | something was done, R)
    found = click_rates[1] / click_rates[0] * chosen[1] / chosen[0]
    # What speaks for a document may come to say nothing, and never speaks against it; nor the other way round.
    found = np.where(lifts > 1, np.maximum(found, 1), np.minimum(found, 1))
    return dict(zip(pairs.responses, found.tolist(), strict=True))


def _largest_change(before: ClickModel, after: ClickModel) -> float:
    estimates = ((before.propensities, after.propensities), (before.click_rates, after.click_rates))
    return max(float(np.abs(new - old).max()) for old, new in estimates)
