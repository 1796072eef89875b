"""The files of a cycle that has mined, written by the parts that mining calls, out of a few searches."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.daemon.click_model import ClickModel
from relevanced.daemon.click_model_file import to_json
from relevanced.daemon.judgments import judge
from relevanced.daemon.mining import with_actors
from relevanced.daemon.pooling import PoolingPolicy, pool_siblings
from relevanced.daemon.triplets import TripletPolicy, mine_triplets

MODEL = ClickModel(
    propensities=1 / np.arange(1, 51),
    click_rates=np.array([0.1, 0.6]),
    priors=np.array([0.4, 0.1, 0.02]),
    iterations=1,
    lifts={"click": 5.5, "purchase": 40.0},
    examination=np.tile([1 / np.arange(1, 51), 0.5 / np.arange(1, 51)], (2, 1, 1)),
)
COMMON, RARE, SIBLING = "itchy skin", "ann o'nym has an itch", "skin itching"
EVIDENCE = [
    # query_key, document_id, position, surface, after_click, response, shown, clicks
    (COMMON, "good", 2, "app", False, "click", 3.0, 3.0),
    (COMMON, "good", 1, "web", True, None, 2.0, 0.0),
    (COMMON, "good", 1, "web", False, "purchase", 1.0, 1.0),
    (COMMON, "skipped", 1, "web", False, None, 9.0, 0.0),
    (RARE, "good", 1, "web", False, "click", 3.0, 3.0),
    (SIBLING, "good", 3, "web", False, "click", 1.0, 1.0),
]
RUN = [("good", 0.8), ("close", 0.79), ("miss", 0.7), ("skipped", 0.6)]


def write_cycle(directory: Path) -> None:
    """Leave in a directory what mining leaves in it."""
    names = ("query_key", "document_id", "position", "surface", "after_click", "response", "shown", "clicks")
    evidence = pa.table(dict(zip(names, map(list, zip(*EVIDENCE, strict=True)), strict=True)))
    keys = (COMMON, RARE, SIBLING)
    run = pa.Table.from_pylist(
        [
            {"query_key": key, "document_id": name, "score": score, "rank": rank}
            for key in keys
            for rank, (name, score) in enumerate(RUN, start=1)
        ]
    )
    judgments = pool_siblings(judge(evidence, run, MODEL), run, MODEL.priors, PoolingPolicy())
    triplets = mine_triplets(judgments, run, {key: key.title() for key in keys}, TripletPolicy())
    directory.mkdir(parents=True)
    pq.write_table(with_actors(triplets, {COMMON: 3, RARE: 2, SIBLING: 7}), directory / "triplets.parquet")
    pq.write_table(judgments, directory / "judgments.parquet")
    (directory / "click_model.json").write_text(to_json(MODEL, ["app", "web"]), encoding="utf-8")
