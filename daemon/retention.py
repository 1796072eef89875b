"""
Retention: indexes and models of old versions go, so that a year of cycles does not fill the disk.

In:  the versions, what serves, the policy; or a version that a person names. Out: tables dropped, directories deleted.
An index that another version searches stays, and so does all of what serves or is worked on, and of the first version:
mining ranks by it, and training begins from it. Begun by the scheduler's upkeep, or by `relevanced versions drop`.
"""

from collections.abc import Mapping

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.embeddings import Connection, Embeddings
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.keeping import RetentionPolicy, beyond, by_worth, fresh_versions
from relevanced.daemon.lease import leased
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.records import Outcome, Version

UNDECIDED = "kept for a later gate"
LEASE_SECONDS = 30  # that nobody prepares a version meanwhile; the drop waits no longer than 5 s for its lock


def surplus(database: Database, policy: RetentionPolicy) -> tuple[list[int], list[int]]:
    """Versions whose index, and versions whose model, is one too many by the policy; the least worth first."""
    versions, changes = history.versions(database), history.serving_history(database)
    by_number = {version.version_id: version for version in versions}
    needed = _needed(database, policy)
    order = by_worth(versions, changes)
    owners = {by_number[number].index_id for number in needed if number in by_number}
    shared = {
        version.index_version_id
        for version in versions
        if version.index_version_id is not None and version.state not in ("rejected", "retired")
    }
    stored = history.index_sizes(database)
    indexes = beyond(
        [number for number in order if number in stored], policy.keep_indexes, needed.keys() | owners | shared
    )
    with_model = [number for number in order if by_number[number].model_dropped_at is None]
    kept = needed.keys() | owners | shared
    return indexes, beyond(with_model, policy.keep_models, kept)


def retain(database: Database, models: ModelStore, policy: RetentionPolicy) -> Outcome:
    """
    Drop what the policy no longer keeps; what is in use at the moment waits for the next time.

    Files that a killed deletion has left go too.
    """
    indexes, without_model = surplus(database, policy)
    waiting: list[str] = []
    dropped: dict[str, list[int]] = {"indexes": [], "models": []}
    for number in dict.fromkeys([*without_model, *indexes]):
        try:
            drop(database, models, policy, number, model=number in without_model)
        except (BadInput, Retry) as error:
            waiting.append(str(error))
            continue
        dropped["indexes"] += [number] if number in indexes else []
        dropped["models"] += [number] if number in without_model else []
    for version in history.versions(database):
        if version.model_dropped_at is not None:
            models.remove(version.version_id)
    said = [f"the {what} of {_listed(numbers)}" for what, numbers in dropped.items() if numbers]
    sentence = f"Dropped {' and '.join(said)}." if said else "No version has more than is kept."
    return Outcome(" ".join([sentence, *waiting]), {**dropped, "waiting": waiting})


def drop(
    database: Database,
    models: ModelStore,
    policy: RetentionPolicy,
    version_id: int,
    *,
    model: bool = False,
    confirmed: str | None = None,
) -> Outcome:
    """
    Drop the index of a version, and its model where that is asked; it no longer follows the documents then.

    Args:
        confirmed: the name of the version, as in v3, typed by a person; asked for the one that `rollback` returns to.

    Raises: BadInput for what must stay, Retry while a search reads the index for longer than seconds.
    """
    version = history.version(database, version_id)
    if version.index_version_id is not None and not model:
        raise BadInput(
            f"Version {version_id} has no index of its own, it searches that of version {version.index_id};"
            " --model drops its files."
        )
    busy = BadInput(f"Version {version_id} is being prepared; drop it when that has ended.")
    with leased(database, f"index {version_id}", seconds=LEASE_SECONDS, busy=busy):
        need = _needed(database, policy)
        with database.connection() as connection:
            connection.execute(sql.postgres["set_lock_patience"])
            connection.execute(sql.postgres["lock_serving"])  # what becomes live from here on is not this version
            _require_free(connection, version, {**need, **_needs(connection)}, confirmed)
            Embeddings(version_id, version_id).drop(connection)
            connection.execute(sql.postgres["note_dropped"], {"version_id": version_id, "model": model})
        if model:
            models.remove(version_id)
    what = "index and model" if model else "index"
    back = (
        "Nothing brings it back but a copy of its files."
        if model
        else f"`relevanced prepare {version_id}` builds it again from the model."
    )
    return Outcome(f"Dropped {what} of version {version_id}. {back}", {"version": version_id, "model": model})


def _require_free(connection: Connection, version: Version, needs: Mapping[int, str], confirmed: str | None) -> None:
    number, name = version.version_id, f"v{version.version_id}"
    need = needs.get(number)
    if need in ("previous", "fresh") and confirmed != name:
        raise BadInput(
            f"Version {number} is kept for a rollback that takes no time; to drop it all the same, add"
            f" --confirm {name}."
        )
    if need not in (None, "previous", "fresh", UNDECIDED):
        raise BadInput(f"Version {number} is {need}, so its index and model stay.")
    readers = [row["version_id"] for row in connection.execute(sql.postgres["index_readers"], {"version_id": number})]
    if readers:
        raise BadInput(
            f"Version {_listed(readers)} searches the index of version {number}, so it stays; drop that one first."
        )


def _needed(database: Database, policy: RetentionPolicy) -> dict[int, str]:
    """What retention leaves alone, and why: what serves and is worked on, what is fresh, and what waits for a gate."""
    fresh = dict.fromkeys(fresh_versions(history.serving_history(database), policy.fresh), "fresh")
    undecided = {version.version_id: UNDECIDED for version in history.kept_candidates(database)}
    with database.connection() as connection:
        return {**fresh, **undecided, **_needs(connection)}


def _needs(connection: Connection) -> dict[int, str]:
    return {row["version_id"]: row["need"] for row in connection.execute(sql.postgres["needed_versions"])}


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
