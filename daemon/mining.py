"""
The step mine: from the log, as of one snapshot, to triplets.

In:  the log without its bots, the base model's ranks and the live version's run (index).
Out: in cycles/<id>/ holdout.parquet (held-out judgments, read by gate) and triplets.parquet (read by training), with
texts; judgments.parquet (all of them) and click_model.json, by which `relevanced triplets show` tells why; mined_with/,
by which `relevanced reproduce` mines the same again.
"""

from collections.abc import Collection, Mapping
from hashlib import file_digest
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from relevanced import sql
from relevanced.daemon.click_model_file import to_json
from relevanced.daemon.documents import document_texts
from relevanced.daemon.files import whole_file, write_text
from relevanced.daemon.golden import golden, golden_clusters
from relevanced.daemon.holdout import cluster_hash
from relevanced.daemon.holdout_use import retire
from relevanced.daemon.judging import Heard, Judged, MiningPolicies, hear, judge_log
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.mined_with import MinedWith, write_mined_with
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Cycle, Outcome
from relevanced.daemon.runs import runs_of_models
from relevanced.daemon.stages import Stages
from relevanced.daemon.text_keys import text_key
from relevanced.daemon.triplets import documents_beside_positives, mine_triplets

TEXTS_AT_ONCE = 10_000  # documents' texts in memory at a time, some 20 MB


def mine(stages: Stages, cycle: Cycle, progress: Progress) -> Outcome:
    """Judge every query of the log that was clicked, and mine triplets from those outside the holdout."""
    snapshot_id = _snapshot(stages, cycle)
    policies = policies_of(stages)
    heard = hear(stages.log_store, snapshot_id, policies, stages.directory)
    _note_judged_queries(stages, cycle, snapshot_id)
    live = stages.promotion.serving().live_version_id
    if not pc.sum(heard.evidence["clicks"]).as_py() or live is None:
        return Outcome("Nothing was clicked yet, so there is nothing to learn from.", verdict="nothing")

    anchors = heard.anchors
    shown = {key: anchors[key] for key in pc.unique(heard.evidence["query_key"]).to_pylist()}
    live_run, ranks = runs_of_models(stages, live, shown, progress)
    held_out_too = frozenset(map(cluster_hash, golden_clusters(golden(stages.database))))
    retired = frozenset(retire(stages.database, stages.holdout))
    judged = judge_log(heard, ranks, policies, golden=held_out_too, retired=retired)
    text_keys = text_keys_of(stages, documents_beside_positives(judged.training, live_run, stages.triplets))
    triplets = mine_triplets(judged.training, live_run, anchors, stages.triplets, text_keys)
    texts = texts_of(stages, triplets)
    files = stages.files(cycle)
    write_mined_with(
        files,
        MinedWith(
            live_version_id=live,
            policies=policies,
            golden=held_out_too,
            retired=retired,
            live_run=live_run,
            ranks=ranks,
            text_keys=text_keys,
            texts=texts,
        ),
    )
    write_text(files / "click_model.json", to_json(judged.click_model, judged.pairs.surfaces))
    _write(files / "judgments.parquet", judged.judgments)
    _write_holdout(files, judged, heard)
    _write_triplets(files, triplets, texts, heard)
    return _outcome(stages, triplets, judged, heard.bots)


def mine_again(log_store: LogStore, snapshot_id: int, given: MinedWith, directory: Path) -> str:
    """
    Mine the triplets and the holdout of a cycle once more, from the log alone and from what mining was given beside it.

    Args:
        directory: where triplets.parquet and holdout.parquet go.
    Returns: the sha256 of triplets.parquet.
    """
    heard = hear(log_store, snapshot_id, given.policies, None)
    judged = judge_log(heard, given.ranks, given.policies, golden=given.golden, retired=given.retired)
    policy = given.policies.triplets
    triplets = mine_triplets(judged.training, given.live_run, heard.anchors, policy, given.text_keys)
    _write_holdout(directory, judged, heard)
    _write_triplets(directory, triplets, given.texts, heard)
    with (directory / "triplets.parquet").open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def policies_of(stages: Stages) -> MiningPolicies:
    """Gather the settings that triplets depend on."""
    return MiningPolicies(
        bots=stages.bots,
        signals=stages.signals,
        click_model=stages.click_model,
        pooling=stages.pooling,
        holdout=stages.holdout,
        triplets=stages.triplets,
        min_actors=stages.privacy.min_actors,
    )


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


def _write_holdout(directory: Path, judged: Judged, heard: Heard) -> None:
    held_out = with_texts(judged.held_out, "query_key", heard.anchors, "user_query")
    held_out = with_actors(held_out, heard.actors)
    for name in ("application", "device"):
        held_out = with_texts(held_out, "query_key", {key: row[name] for key, row in heard.known.items()}, name)
    _write(directory / "holdout.parquet", held_out)


def _write_triplets(directory: Path, triplets: pa.Table, texts: Mapping[str, str], heard: Heard) -> None:
    _write(directory / "triplets.parquet", with_actors(with_document_texts(triplets, texts), heard.actors))


def with_texts(table: pa.Table, key: str, texts: Mapping[str, str | None], column: str) -> pa.Table:
    """Append the text of each row's key as a column."""
    return table.append_column(column, pa.array([texts[name] for name in table[key].to_pylist()], pa.string()))


def with_actors(table: pa.Table, actors: Mapping[str, int]) -> pa.Table:
    """Append how many actors typed the query, by which it is shown to people or not."""
    typed_by = [actors[key] for key in table["query_key"].to_pylist()]
    return table.append_column("actors", pa.array(typed_by, pa.int64()))


def texts_of(stages: Stages, triplets: pa.Table) -> dict[str, str]:
    """Read what a model reads of the documents of triplets; one that was deleted is left out."""
    wanted = set(triplets["positive_id"].to_pylist()).union(*triplets["negative_ids"].to_pylist())
    return document_texts(stages.database, sorted(wanted))


def with_document_texts(triplets: pa.Table, texts: Mapping[str, str]) -> pa.Table:
    """Append the texts that training reads, `positive` and the list `negatives`; rows of deleted documents go."""
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


def _outcome(stages: Stages, triplets: pa.Table, judged: Judged, bots: int) -> Outcome:
    queries, model, bias = len(pc.unique(triplets["query_key"])), judged.click_model, judged.bias
    numbers = {
        "triplets": len(triplets),
        "training_queries": queries,
        "held_out_queries": len(pc.unique(judged.held_out["query_key"])),
        "judgments": len(judged.judgments),
        "bots": bots,
        "propensities": [round(float(value), 4) for value in model.propensities],
        **bias.numbers(),
        "click_rates": [round(float(value), 4) for value in model.click_rates],
        "pushed": round(model.pushed, 6),
    }
    if len(triplets) < stages.min_triplets:
        sentence = f"Mined {len(triplets)} triplets; a cycle needs {stages.min_triplets}, so this one ends here."
        return Outcome(sentence, numbers, "nothing")
    sentence = f"Mined {len(triplets):,} triplets of {queries:,} queries from {len(judged.judgments):,} judgments."
    return Outcome(f"{sentence} {bias.sentence}", numbers)
