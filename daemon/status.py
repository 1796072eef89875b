"""
What is going on, gathered from the rows: for `relevanced status` and, later, the dashboard.

In:  Postgres and the log store. Out: one mapping, ready for JSON, and its sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

from rich.table import Table

from relevanced.daemon import history
from relevanced.daemon.approval import waiting
from relevanced.daemon.attaching import source_sentences, source_status
from relevanced.daemon.cost import PricesPolicy, cost_sentences
from relevanced.daemon.cycle import last_cycle, open_cycle
from relevanced.daemon.database import Database
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Serving, Version
from relevanced.daemon.tryout import trials
from relevanced.daemon.tuned import Found


def status_of(database: Database, log_store: LogStore, recipe: Found | None = None) -> dict[str, Any]:
    """
    What is live and why, the cycle that runs, the last that ended, and what the log holds.

    Args:
        recipe: that cycles train by, where a search has found one.
    """
    serving = Promotion(database).serving()
    changes = history.serving_history(database)
    running, last = open_cycle(database), last_cycle(database)
    steps = history.steps(database, running.cycle_id) if running else []
    return {
        "live_version": serving.live_version_id,
        "previous_version": serving.previous_version_id,
        "last_change": changes[0] if changes else None,
        "replicas": history.replicas(database),
        "trial": next((row for row in trials(database) if row["ended_at"] is None), None),
        "waiting": waiting(database),
        "running_cycle": {"cycle_id": running.cycle_id, "step": running.step, "steps": steps} if running else None,
        "last_cycle": {
            "cycle_id": last.cycle_id,
            "ended_at": last.ended_at,
            "sentence": last.sentence,
            "steps": history.steps(database, last.cycle_id),
        }
        if last
        else None,
        "kept": [
            {"version": version.version_id, "enough_queries": version.manifest["metrics"]["enough_queries"]}
            for version in history.kept_candidates(database)
        ],
        "documents": source_status(database),
        "recipe": {**asdict(recipe), "sentence": recipe.sentence} if recipe else None,
        "log": log_store.read("log_counts", log_store.snapshot()).to_pylist()[0],
    }


def status_sentences(status: Mapping[str, Any]) -> Iterator[str]:
    """The same in words."""
    change = status["last_change"]
    if change is None:
        yield "No version is live yet; `relevanced documents load FILE` makes the first."
    else:
        yield (
            f"Version {status['live_version']} is live since {change['changed_at']:%Y-%m-%d %H:%M},"
            f" by {change['verb']} of {change['actor']}: {change['reason']}"
        )
    if status["previous_version"] is not None:
        yield f"`relevanced rollback` returns to version {status['previous_version']}."
    yield from map(_replica_sentence, status["replicas"])
    if trial := status["trial"]:
        yield trial_sentence(trial)
    row = status["waiting"]
    if row and row["version_id"] != status["live_version"]:  # `promote` by hand needs no approval
        number = row["version_id"]
        yield (
            f"Version {number} waits for approval since {row['asked_at']:%Y-%m-%d %H:%M}: {row['why']}"
            f" `relevanced approve {number}` or `relevanced reject {number}` decides."
        )
    for kept in status["kept"]:
        enough = f"{kept['enough_queries']:,} held-out queries"
        yield f"Version {kept['version']} is kept until {enough} tell whether it is better."
    if running := status["running_cycle"]:
        yield f"Cycle {running['cycle_id']} is at the step {running['step']}{_how_far(running['steps'])}."
    if last := status["last_cycle"]:
        yield f"Cycle {last['cycle_id']} ended {last['ended_at']:%Y-%m-%d %H:%M}: {last['sentence']}"
    if recipe := status["recipe"]:
        yield recipe["sentence"]
    yield from source_sentences(status["documents"])
    log = status["log"]
    yield (
        f"The log holds {log['queries']:,} queries, {log['clicks']:,} clicks and {log['dead_letters']:,} dead letters."
    )


def trials_table(trials: Sequence[Mapping[str, Any]]) -> Table:
    """The trials as a table, in their order."""
    table = Table("trial", "version", "against", "for", "since", "verdict", "for : against", "interval")
    for trial in trials:
        numbers = trial["numbers"]
        table.add_row(
            str(trial["trial_id"]),
            str(trial["other_version_id"]),
            str(trial["live_version_id"]),
            trial["purpose"],
            f"{trial['started_at']:%Y-%m-%d}",
            trial["verdict"] or "runs",
            f"{numbers['for_other']:,} : {numbers['for_live']:,}" if numbers else "",
            f"{numbers['low']:+.2f} to {numbers['high']:+.2f}" if numbers else "",
        )
    return table


def trial_sentence(trial: Mapping[str, Any]) -> str:
    """What a trial that runs has shown so far."""
    numbers = trial["numbers"]
    so_far = (
        f"{numbers['for_other']:,} preferences for it and {numbers['for_live']:,} for live so far"
        f" ({numbers['preference']:+.2f}, {numbers['low']:+.2f} to {numbers['high']:+.2f})"
        if numbers
        else "nothing is known yet"
    )
    return (
        f"Version {trial['other_version_id']} is on trial against version {trial['live_version_id']} since"
        f" {trial['started_at']:%Y-%m-%d %H:%M}: {so_far}."
    )


def _replica_sentence(replica: Mapping[str, Any]) -> str:
    answering, loaded = replica["answering_version_id"], " and ".join(map(str, replica["ready_version_ids"])) or "none"
    failed = "".join(f" Version {number} cannot be loaded: {why}" for number, why in replica["failures"].items())
    return (
        f"Replica {replica['process']}, heard of {replica['silent_seconds']:,.0f} s ago, answers by version"
        f" {answering or 'none'}; loaded: {loaded}.{failed}"
    )


def _how_far(steps: list[Mapping[str, Any]]) -> str:
    progress = next((step["progress"] for step in steps if step["verdict"] is None and step["progress"]), None)
    if progress is None:
        return ""
    detail = f" ({progress['detail']})" if progress.get("detail") else ""
    return f": {progress['label']}, {progress['done']:,} of {progress['total']:,}{detail}"


def change_sentence(change: Mapping[str, Any]) -> str:
    """Say who changed what is live, when, from where, and why."""
    before = f" in place of {change['previous_version_id']}" if change["previous_version_id"] is not None else ""
    verb = {"promote": "Promoted", "rollback": "Rolled back to"}[change["verb"]]
    host = f" on {change['host']}" if change["host"] else ""
    when = change["changed_at"].astimezone(UTC)
    return (
        f"{when:%Y-%m-%d %H:%M:%S} UTC: {verb} version {change['live_version_id']}{before}, by {change['actor']}{host}:"
        f" {change['reason']}"
    )


def version_sentences(
    version: Version, serving: Serving, prices: PricesPolicy, lineage: Mapping[str, Any]
) -> Iterator[str]:
    """
    Tell how one version was made, how good it is, what became of it, and what it has cost.

    Args:
        lineage: as history.lineage gives it.
    """
    manifest, number = version.manifest, version.version_id
    role = {serving.live_version_id: "live", serving.previous_version_id: "previous"}.get(number, version.state)
    made = f"{version.created_at:%Y-%m-%d %H:%M}"
    yield f"Version {number} is {role}, made {made}; its fingerprint is {version.fingerprint}."
    if "imported" in manifest:
        yield f"It was imported from {manifest['imported']['from']}."
    elif "cycle_id" not in manifest:
        yield f"It is the base model {manifest.get('base')} as it came."
    else:
        what = "adapts the queries of" if "adapter" in manifest else "was trained from"
        triplets = sum(manifest["triplets"].values())
        yield (
            f"It {what} version {manifest['base']} on {triplets:,} triplets of cycle {manifest['cycle_id']}, mined from"
            f" the log as of snapshot {manifest['snapshot_id']}."
        )
    if training := manifest.get("training"):
        threads = f" with {training['threads']} threads" if training.get("threads") else ""
        yield (
            f"Its training took {training['steps']:,} steps on {training['device']}{threads}; the last loss was"
            f" {training['last_loss']:.3f}."
        )
    metrics = manifest.get("metrics", {})
    if metrics.get("ndcg@10") is not None:
        yield f"At its gate it reached NDCG@10 {metrics['ndcg@10']:.3f}."
    if lineage["parents"]:
        yield f"Live when it was made, and before that: version {', '.join(map(str, lineage['parents']))}."
    yield from lineage["verdicts"].values()
    yield _index_sentence(version, lineage)
    yield from map(change_sentence, lineage["changes"])
    yield from cost_sentences(manifest.get("cost", {}), prices)
    if "mining" in manifest:
        yield f"`relevanced reproduce {number}` makes it once more, to see whether it comes out the same."


def _index_sentence(version: Version, lineage: Mapping[str, Any]) -> str:
    number, size = version.version_id, lineage["index_bytes"]
    whose = (
        "Its index" if lineage["index_version"] == number else f"The index of version {version.index_id}, its own too,"
    )
    if version.model_dropped_at is not None:
        return f"Its model was dropped {version.model_dropped_at:%Y-%m-%d %H:%M}, so no index can be built for it."
    if size is None:
        return f"It has no index; `relevanced prepare {number}` builds one."
    follows = "follows" if version.state in ("prepared", "verified") else "does not follow"
    return f"{whose} takes {size / 1e6:,.1f} MB and {follows} the documents."


def versions_table(versions: Sequence[Version], serving: Serving, sizes: Mapping[int, int]) -> Table:
    """
    The versions as a table, the youngest first.

    Args:
        sizes: bytes of the indexes that there are.
    """
    table = Table("version", "", "state", "made", "from", "NDCG@10", "triplets", "index")
    roles = {serving.live_version_id: "live", serving.previous_version_id: "previous"}
    for version in sorted(versions, key=lambda version: -version.version_id):
        metrics = version.manifest.get("metrics", {})
        table.add_row(
            str(version.version_id),
            roles.get(version.version_id, ""),
            version.state + (f", on the index of {version.index_id}" if version.index_version_id else ""),
            f"{version.created_at:%Y-%m-%d %H:%M}",
            str(version.manifest.get("base", "")),
            f"{metrics['ndcg@10']:.3f}" if metrics.get("ndcg@10") is not None else "",
            f"{sum(version.manifest.get('triplets', {}).values()) or '':}",
            _index_words(version, sizes.get(version.index_id)),
        )
    return table


def _index_words(version: Version, size: int | None) -> str:
    if size is None:
        return "none, and no model" if version.model_dropped_at is not None else "none"
    return f"{size / 1e6:,.1f} MB"
