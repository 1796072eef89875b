"""
Versions and what became of them: everything the command line and the pages show is read here.

In:  rows of version, serving_history, cycle and cycle_step. Out: versions as records, the rest as rows.
The writers of a version's row are here too, so that one file knows its columns.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from relevanced import sql
from relevanced.daemon.cost import CostKind
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.keeping import lived_before as lived_before_in
from relevanced.daemon.records import Version, VersionState


def versions(database: Database) -> list[Version]:
    """Every version that has a model, the oldest first."""
    return [_version(row) for row in _rows(database, "versions") if row["directory"] is not None]


def version(database: Database, version_id: int) -> Version:
    """
    One version that has a model.

    Raises: BadInput when there is none of that number, or its model is not complete.
    """
    rows = {row["version_id"]: row for row in _rows(database, "versions")}
    if version_id not in rows:
        numbers = ", ".join(map(str, rows)) or "none yet"
        raise BadInput(f"There is no version {version_id}; there are: {numbers}. `relevanced versions` tells more.")
    if rows[version_id]["directory"] is None:
        raise BadInput(f"Version {version_id} has no model yet; the cycle that trains it goes on by itself.")
    return _version(rows[version_id])


def first_number(database: Database) -> int | None:
    """The number of the first version, whether or not its model is complete."""
    rows = _rows(database, "versions")
    return int(rows[0]["version_id"]) if rows else None


def base_version(database: Database) -> Version:
    """
    The first version: the base model as it was, before any click.

    Raises: BadInput before the first documents were loaded.
    """
    number = first_number(database)
    if number is None:
        raise BadInput("There is no version yet; `relevanced documents load FILE` makes the first.")
    return version(database, number)


def kept_versions(database: Database) -> list[Version]:
    """The versions that have an index which follows the documents."""
    return [version for version in versions(database) if version.state in ("prepared", "verified")]


def followers(database: Database) -> list[Version]:
    """
    One version for each index that follows the documents: its owner where that is kept, else one that searches it.

    An index follows for as long as a version that is kept, or an adapter that no gate has decided about, searches it.
    """
    found: dict[int, Version] = {}
    for one in versions(database):
        if one.state in ("prepared", "verified") or (one.state == "candidate" and one.index_version_id):
            found.setdefault(one.index_id, one)  # the owner is older than its adapters
    return list(found.values())


def kept_candidates(database: Database) -> list[Version]:
    """Candidates that no gate has decided about yet, since it takes more queries; the oldest first."""
    return [
        version
        for version in versions(database)
        if version.state == "candidate" and version.manifest.get("metrics", {}).get("enough_queries")
    ]


def lived_before(database: Database) -> list[int]:
    """Versions that were live before the present one, the latest first, but for those that were rolled back from."""
    return lived_before_in(serving_history(database))


def serving_history(database: Database) -> list[dict[str, Any]]:
    """What was live when, who changed it and why, the newest change first."""
    return _rows(database, "serving_history")


def index_sizes(database: Database) -> dict[int, int]:
    """Bytes of each version's own table and its indexes, of those that there are."""
    return {row["version_id"]: row["bytes"] for row in _rows(database, "index_sizes")}


def change_before(database: Database, moment: datetime) -> dict[str, Any]:
    """
    The change of the live version that held at a moment.

    Raises: BadInput where none was live yet, or the moment is still to come.
    """
    changes = serving_history(database)
    if moment > datetime.now(UTC):
        raise BadInput(f"{moment:%Y-%m-%d %H:%M} UTC is still to come; `relevanced status` says what is live now.")
    found = next((row for row in changes if row["changed_at"] <= moment), None)
    if found is None:
        first = f"; the first came {changes[-1]['changed_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if changes else ""
        raise BadInput(f"No version was live at {moment:%Y-%m-%d %H:%M:%S} UTC{first}.")
    return found


def lineage(database: Database, version_id: int) -> dict[str, Any]:
    """
    Where a version comes from, and what became of it.

    Returns: parents, from the live version of its time back to the first; verdicts, the sentences of gate, verify and
        promote of its cycle; index_bytes, or None where there is no index; changes, oldest first, that made it live or
        took its place.
    """
    parents: list[int] = []
    known = {row["version_id"]: row for row in _rows(database, "versions")}
    number = known[version_id]["parent_version_id"]
    while number is not None and number not in parents:
        parents.append(number)
        number = known[number]["parent_version_id"]
    cycle_id = (known[version_id]["manifest"] or {}).get("cycle_id")
    told = steps(database, cycle_id) if cycle_id is not None else []
    changes = [
        row for row in serving_history(database) if version_id in (row["live_version_id"], row["previous_version_id"])
    ]
    owner = known[version_id]["index_version_id"] or version_id
    return {
        "parents": parents,
        "verdicts": {row["step"]: row["sentence"] for row in told if row["step"] in ("gate", "verify", "promote")},
        "index_version": owner,
        "index_bytes": index_sizes(database).get(owner),
        "changes": changes[::-1],
    }


def replicas(database: Database) -> list[dict[str, Any]]:
    """The processes that search, and those that have stopped within the hour: what each answers with and has loaded."""
    return _rows(database, "replicas")


def cycles(database: Database) -> list[dict[str, Any]]:
    """Every cycle, the newest first."""
    return _rows(database, "cycles")


def steps(database: Database, cycle_id: int) -> list[dict[str, Any]]:
    """The steps of one cycle in the order in which they began."""
    return _rows(database, "steps", cycle_id=cycle_id)


def register_version(connection: psycopg.Connection[DictRow], parent_version_id: int | None) -> int:
    """Take the next number, in the caller's transaction: a number that nobody noted would be an orphan."""
    connection.execute(sql.postgres["lock_versions"])
    (row,) = connection.execute(sql.postgres["register_version"], {"parent_version_id": parent_version_id})
    return int(row["version_id"])


def complete_version(
    database: Database,
    version_id: int,
    directory: Path,
    fingerprint: str,
    dimension: int,
    manifest: Mapping[str, Any],
    index_version_id: int | None = None,
) -> None:
    """
    Note that the model's files are complete, and what vector space they make.

    Args:
        index_version_id: whose index it searches; None: its own.
    """
    with database.connection() as connection:
        complete_registered(connection, version_id, directory, fingerprint, dimension, manifest, index_version_id)


def complete_registered(
    connection: psycopg.Connection[DictRow],
    version_id: int,
    directory: Path,
    fingerprint: str,
    dimension: int,
    manifest: Mapping[str, Any],
    index_version_id: int | None = None,
) -> None:
    """Do the same in the transaction that took the number, so that no number is ever without a model."""
    values = {
        "version_id": version_id,
        "directory": str(directory),
        "fingerprint": fingerprint,
        "dimension": dimension,
        "manifest": Jsonb(dict(manifest)),
        "index_version_id": index_version_id,
    }
    connection.execute(sql.postgres["complete_version"], values)


def note_metrics(connection: psycopg.Connection[DictRow], version_id: int, metrics: Mapping[str, Any]) -> None:
    """Add what the gate measured to the version's manifest, in the transaction that acts on it."""
    connection.execute(sql.postgres["note_metrics"], {"version_id": version_id, "metrics": Jsonb(dict(metrics))})


def add_cost(database: Database, version_id: int, kind: CostKind, where: str, seconds: float) -> None:
    """
    Add seconds to what a version has cost, in the manifest of its row; the file beside the model stays as it was.

    Args:
        where: the device, or postgres.
    """
    row = {"version_id": version_id, "kind": kind, "where": where, "seconds": seconds}
    _write(database, "add_cost", **row)


def set_state(database: Database, version_id: int, state: VersionState) -> None:
    """Note how far a version has come; the live one is never set to rejected."""
    _write(database, "set_version_state", version_id=version_id, state=state)


def _rows(database: Database, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    with database.connection() as connection:
        return connection.execute(sql.postgres[statement], parameters).fetchall()


def _write(database: Database, statement: str, **parameters: Any) -> None:
    with database.connection() as connection:
        connection.execute(sql.postgres[statement], parameters)


def _version(row: Mapping[str, Any]) -> Version:
    return Version(**{**row, "directory": Path(row["directory"])})
