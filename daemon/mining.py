"""
The step mine: from the log, as of one snapshot, to triplets.

In:  the log without its bots, the base model's ranks and the live version's run (index).
Out: in cycles/<id>/ holdout.parquet (held-out judgments, read by gate) and triplets.parquet (read by training), with
texts; judgments.parquet (all of them) and click_model.json, by which `relevanced triplets show` tells why.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from relevanced import sql
from relevanced.daemon.bots import marked_bots
from relevanced.daemon.click_model import ClickModel, fit_pairs
from relevanced.daemon.click_model_file import to_json
from relevanced.daemon.documents import document_texts
from relevanced.daemon.evidence import read_evidence
from relevanced.daemon.files import whole_file, write_text
from relevanced.daemon.golden import golden, golden_clusters
from relevanced.daemon.holdout import split
from relevanced.daemon.holdout_use import retire
from relevanced.daemon.identification import Identification, identify
from relevanced.daemon.judgments import judge_naively, judge_pairs
from relevanced.daemon.pairs import gather
from relevanced.daemon.pooling import pool_siblings
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import query_key
from relevanced.daemon.records import Cycle, Outcome
from relevanced.daemon.runs import runs_of_models
from relevanced.daemon.stages import Stages
from relevanced.daemon.text_keys import text_key
from relevanced.daemon.triplets import documents_beside_positives, mine_triplets

TEXTS_AT_ONCE = 10_000  # documents' texts in memory at a time, some 20 MB


def mine(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """Judge every query of the log that was clicked, and mine triplets from those outside the holdout."""
    snapshot_id = _snapshot(stages, cycle)
    bots = marked_bots(stages.log_store, snapshot_id, stages.bots)
    typed = stages.log_store.read("typed_queries", snapshot_id, {"bots": bots}, min_actors=stages.privacy.min_actors)
    keys, known = _typed(typed)
    anchors = {key: row["user_query"] for key, row in known.items()}
    actors = {key: row["actors"] for key, row in known.items()}
    evidence = read_evidence(
        stages.log_store,
        snapshot_id,
        query_keys=keys,
        bots=bots,
        signals=stages.signals,
        directory=stages.directory,
    )
    _note_judged_queries(stages, cycle, snapshot_id)
    live = stages.promotion.serving().live_version_id
    if not pc.sum(evidence["clicks"]).as_py() or live is None:
        return Outcome("Nothing was clicked yet, so there is nothing to learn from.", verdict="nothing")

    shown = {key: anchors[key] for key in pc.unique(evidence["query_key"]).to_pylist()}
    live_run, ranks = runs_of_models(stages, live, shown, progress)
    deepest = pc.max(ranks["rank"]).as_py() or 0
    pairs = gather(evidence, ranks, deepest)
    click_model = fit_pairs(pairs, deepest, stages.click_model, stages.signals)
    bias = identify(pairs, click_model, stages.click_model, stages.signals)
    naive = stages.click_model.method == "naive"
    alone = judge_naively(evidence) if naive else judge_pairs(pairs, click_model)
    judgments = alone if naive else pool_siblings(alone, ranks, click_model.priors, stages.pooling)
    when = keys.append_column("first_typed", typed["first_typed"]).append_column("last_typed", typed["last_typed"])
    training, held_out = split(
        judgments,
        when,
        stages.holdout,
        golden=golden_clusters(golden(stages.database)),
        retired=retire(stages.database, stages.holdout),
    )

    text_keys = text_keys_of(stages, documents_beside_positives(training, live_run, stages.triplets))
    triplets = mine_triplets(training, live_run, anchors, stages.triplets, text_keys)
    write_text(stages.files(cycle) / "click_model.json", to_json(click_model, pairs.surfaces))
    _write(stages.files(cycle) / "judgments.parquet", judgments)
    held_out = with_actors(with_texts(held_out, "query_key", anchors, "user_query"), actors)
    for name in ("application", "device"):
        held_out = with_texts(held_out, "query_key", {key: row[name] for key, row in known.items()}, name)
    _write(stages.files(cycle) / "holdout.parquet", held_out)
    _write(stages.files(cycle) / "triplets.parquet", with_actors(with_document_texts(stages, triplets), actors))
    return _outcome(stages, triplets, judgments, held_out, click_model, bias, len(bots))


def _snapshot(stages: Stages, cycle: Cycle) -> int:
    """The cycle's snapshot: the newest when it begins, the same when it is begun again."""
    parameters = {"cycle_id": cycle.cycle_id, "snapshot_id": stages.log_store.snapshot()}
    with stages.database.connection() as connection:
        row = connection.execute(sql.postgres["note_snapshot"], parameters).fetchone()
    assert row is not None  # the cycle's row is never deleted
    return int(row["snapshot_id"])


def _note_judged_queries(stages: Stages, cycle: Cycle, snapshot_id: int) -> None:
    clicked = stages.log_store.read("clicked_queries", snapshot_id)["clicked_queries"][0].as_py()
    parameters = {"cycle_id": cycle.cycle_id, "judged_queries": clicked}
    with stages.database.connection() as connection:
        connection.execute(sql.postgres["note_judged_queries"], parameters)


def _typed(typed: pa.Table) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """Give the key of each text that was typed, and for each key what is known of the text that most actors typed."""
    rows = typed.to_pylist()
    keys = [query_key(row["user_query"]) for row in rows]
    most: dict[str, dict[str, Any]] = {}
    for key, row in zip(keys, rows, strict=True):
        if key not in most or _rank(row) > _rank(most[key]):
            most[key] = row
    return pa.table({"user_query": typed["user_query"], "query_key": keys}), most


def _rank(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["actors"], row["user_query"]


def with_texts(table: pa.Table, key: str, texts: Mapping[str, str | None], column: str) -> pa.Table:
    """Append the text of each row's key as a column."""
    return table.append_column(column, pa.array([texts[name] for name in table[key].to_pylist()], pa.string()))


def with_actors(table: pa.Table, actors: Mapping[str, int]) -> pa.Table:
    """Append how many actors typed the query, by which it is shown to people or not."""
    typed_by = [actors[key] for key in table["query_key"].to_pylist()]
    return table.append_column("actors", pa.array(typed_by, pa.int64()))


def with_document_texts(stages: Stages, triplets: pa.Table) -> pa.Table:
    """Append the texts that training reads, `positive` and the list `negatives`; rows of deleted documents go."""
    negative_ids = triplets["negative_ids"].to_pylist()
    wanted = set(triplets["positive_id"].to_pylist()).union(*negative_ids)
    texts = document_texts(stages.database, sorted(wanted))
    kept = triplets.filter(pa.array([name in texts for name in triplets["positive_id"].to_pylist()], pa.bool_()))
    negatives = [[texts[name] for name in names if name in texts] for names in kept["negative_ids"].to_pylist()]
    return with_texts(kept, "positive_id", texts, "positive").append_column(
        "negatives", pa.array(negatives, pa.list_(pa.string()))
    )


def text_keys_of(stages: Stages, document_ids: Collection[str]) -> dict[str, str]:
    """Read the texts of documents, TEXTS_AT_ONCE of them at a time, and keep their keys."""
    names = sorted(document_ids)
    keys: dict[str, str] = {}
    for start in range(0, len(names), TEXTS_AT_ONCE):
        texts = document_texts(stages.database, names[start : start + TEXTS_AT_ONCE])
        keys |= {name: text_key(text) for name, text in texts.items()}
    return keys


def _write(path: Path, table: pa.Table) -> None:
    with whole_file(path) as partial:
        pq.write_table(table, partial)


def _outcome(
    stages: Stages,
    triplets: pa.Table,
    judgments: pa.Table,
    held_out: pa.Table,
    model: ClickModel,
    bias: Identification,
    bots: int,
) -> Outcome:
    queries = len(pc.unique(triplets["query_key"]))
    numbers = {
        "triplets": len(triplets),
        "training_queries": queries,
        "held_out_queries": len(pc.unique(held_out["query_key"])),
        "judgments": len(judgments),
        "bots": bots,
        "propensities": [round(float(value), 4) for value in model.propensities],
        **bias.numbers(),
        "click_rates": [round(float(value), 4) for value in model.click_rates],
        "pushed": round(model.pushed, 6),
    }
    if len(triplets) < stages.min_triplets:
        sentence = f"Mined {len(triplets)} triplets; a cycle needs {stages.min_triplets}, so this one ends here."
        return Outcome(sentence, numbers, "nothing")
    sentence = f"Mined {len(triplets):,} triplets of {queries:,} queries from {len(judgments):,} judgments."
    return Outcome(f"{sentence} {bias.sentence}", numbers)
