"""
The click model as a file beside the triplets, for who asks what a click meant.

In:  the fitted ClickModel. Out: JSON, and the model back: propensities (of all surfaces together, by position from 1),
surfaces (of each, without a click further up and below one), click_rates, lifts, priors (by rank from 1), pushed.
"""

import json
from collections.abc import Sequence

import numpy as np

from relevanced.daemon.click_model import ClickModel


def to_json(model: ClickModel, surfaces: Sequence[str]) -> str:
    """Write the model down; `surfaces` are those of its evidence, in order."""
    curves = model.examination
    if curves is None:
        curves = np.tile(model.propensities, (len(surfaces), 2, 1))
    fields = {
        "propensities": model.propensities.tolist(),
        "surfaces": {
            name: {"no_click_above": curve[0].tolist(), "below_a_click": curve[1].tolist()}
            for name, curve in zip(surfaces, curves, strict=True)
        },
        "click_rates": dict(zip(("other", "relevant"), model.click_rates.tolist(), strict=True)),
        "lifts": dict(model.lifts),
        "priors": model.priors.tolist(),
        "pushed": model.pushed,
        "iterations": model.iterations,
    }
    return json.dumps(fields, ensure_ascii=False, indent=1)


def from_json(text: str) -> tuple[ClickModel, list[str]]:
    """Read the model, and the surfaces of its evidence."""
    fields = json.loads(text)
    curves = [[curve["no_click_above"], curve["below_a_click"]] for curve in fields["surfaces"].values()]
    model = ClickModel(
        propensities=np.array(fields["propensities"]),
        click_rates=np.array([fields["click_rates"][name] for name in ("other", "relevant")]),
        priors=np.array(fields["priors"]),
        iterations=fields["iterations"],
        lifts=fields["lifts"],
        examination=np.array(curves) if curves else None,
        pushed=fields["pushed"],
    )
    return model, list(fields["surfaces"])
