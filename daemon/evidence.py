"""
Evidence out of the log: all of it, or what has changed since it was last read.

In:  the log as of a snapshot, its bots, and the key of each text. Out: EVIDENCE, read by pairs; and a copy in the state
directory, from which the next reading goes on.

What people did is counted by actor, so that evidence is a sum over them: of those whom the new rows concern what they
said before is taken away and what they say now is added. It is counted in whole parts of a voice, hence to the last
digit what reading everything again gives, and the copy changes how long it takes and nothing else.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from relevanced import sql
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.signals import SignalPolicy

FOLDER: Final = "evidence"  # in the directory of the cycles
_MOST: Final = 0.3  # of the searches, from which on it is quicker to read all of them
_KEPT: Final = ("evidence", "query_keys", "bots", "applications_from_0")


@dataclass(frozen=True, slots=True)
class Kept:
    """Evidence as of a snapshot, and what it was read with."""

    snapshot_id: int
    evidence: pa.Table
    tables: Mapping[str, pa.Table]


def read_evidence(
    log_store: LogStore,
    snapshot_id: int,
    *,
    query_keys: pa.Table,
    bots: pa.Table,
    signals: SignalPolicy,
    directory: Path | None = None,
) -> pa.Table:
    """
    Give EVIDENCE as of a snapshot.

    Args:
        query_keys: user_query, query_key; texts that are not there are passed over.
        bots: the actors to pass over.
        directory: where the copy is kept; None reads everything.
    Returns: query_key, document_id, position, after_click, surface, response, shown and clicks; in this order, but for
        the position, which comes after after_click.
    """
    parameters: dict[str, Any] = signals.parameters()
    bots = bots.select(["actor"])
    tables = {
        "query_keys": query_keys,
        "bots": bots,
        "signals": signals.table(),
        "applications_from_0": log_store.read("applications_from_0", snapshot_id, {"bots": bots}),
    }
    kept = _kept(directory / FOLDER, _terms(signals)) if directory else None
    evidence = _later(log_store, snapshot_id, kept, tables, signals) if kept else None
    if evidence is None:
        evidence = log_store.read("evidence", snapshot_id, tables, **parameters)
    if directory and (kept is None or kept.snapshot_id != snapshot_id or evidence is not kept.evidence):
        _keep(directory / FOLDER, _terms(signals), snapshot_id, {**tables, "evidence": evidence})
    return evidence


def drop_evidence(directory: Path) -> None:
    """Let the copy go, as it must when persons are forgotten; the next cycle reads everything."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def _later(
    log_store: LogStore, snapshot_id: int, kept: Kept, tables: Mapping[str, pa.Table], signals: SignalPolicy
) -> pa.Table | None:
    """Go on from the evidence that is kept; None where that cannot be done, or not faster."""
    if kept.snapshot_id == snapshot_id and all(kept.tables[name].equals(tables[name]) for name in kept.tables):
        return kept.evidence
    known = log_store.read("known_snapshots", snapshot_id)["snapshot_id"].to_pylist()
    if (
        kept.snapshot_id >= snapshot_id  # at the same one, with other bots, there are no changes to ask for
        or kept.snapshot_id not in known
        or not kept.tables["applications_from_0"].equals(tables["applications_from_0"])
        or signals.half_life_days > 0  # whoever says nothing new says less by the day
    ):
        return None
    touched = _touched(log_store, snapshot_id, kept, tables)
    if touched is None:
        return None
    parameters: dict[str, Any] = signals.parameters()
    read = {"touched": touched, **tables}
    come = log_store.read("evidence", snapshot_id, read, views="view_touched", **parameters)
    read |= kept.tables
    gone = log_store.read("evidence", kept.snapshot_id, read, views="view_touched", **parameters)
    return log_store.read("add_evidence", snapshot_id, {"kept": kept.evidence, "gone": gone, "come": come})


def _touched(log_store: LogStore, snapshot_id: int, kept: Kept, tables: Mapping[str, pa.Table]) -> pa.Table | None:
    """
    Find the hashes of all searches of whomever a change concerns.

    Returns: search; None where they are too many, or where DuckLake's list of changes misses rows.
    """
    both: dict[str, pa.Table] = {f"{name}_before": kept.tables[name] for name in ("bots", "query_keys")}
    both |= {name: tables[name] for name in ("bots", "query_keys")}
    between: dict[str, Any] = {"before": kept.snapshot_id, "now": snapshot_id}
    (missed,) = log_store.read("rows_unaccounted_for", snapshot_id, **between)["missed"].to_pylist()
    if missed:
        return None
    touched = log_store.read("touched_searches", snapshot_id, both, most=_MOST, **between)
    return touched.select(["search"]) if not touched.num_rows or not touched["too_many"][0].as_py() else None


def _terms(signals: SignalPolicy) -> str:
    """What evidence that may be added to must have been read by: the statement and its settings."""
    said = [sql.duckdb["evidence"], sorted(signals.lifts.items()), sorted(signals.parameters().items())]
    return sha256(repr(said).encode()).hexdigest()[:16]


def _kept(folder: Path, terms: str) -> Kept | None:
    """What lies in the folder, if it was read by these terms."""
    for place in folder.glob(f"*-{terms}"):
        tables = {name: pq.read_table(place / f"{name}.parquet") for name in _KEPT}
        evidence = tables.pop("evidence")
        return Kept(int(place.name.partition("-")[0]), evidence, tables)
    return None


def _keep(folder: Path, terms: str, snapshot_id: int, tables: Mapping[str, pa.Table]) -> None:
    """Write the copy, whole, and let the one before go."""
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in _KEPT:
        pq.write_table(tables[name], partial / f"{name}.parquet")
    for place in folder.glob("*-*"):
        shutil.rmtree(place)
    partial.rename(folder / f"{snapshot_id}-{terms}")
