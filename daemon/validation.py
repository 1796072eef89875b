"""
Whether a log can teach: named checks, and the account of what joins what.

In:  a log store (or a file that was read into one that passes), the known versions and documents. Out: Report, for
`relevanced validate`; nothing is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
from annotated_types import Ge, Interval

from relevanced import sql
from relevanced.daemon.bots import BotPolicy, marked_bots
from relevanced.daemon.database import Database
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.ports import Progress

Grade = Literal["PASS", "WARN", "FAIL"]
Share = Annotated[float, Interval(ge=0, le=1)]
Limits = tuple[Share, Share]  # a share beyond the first is a WARN, beyond the second a FAIL; beyond 1 is nothing

AT_ONCE: Final = 10_000  # documents that Postgres is asked about in one statement


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationPolicy:
    """Which share of a log may be odd. A FAIL means that cycles would learn nothing from it, or something wrong."""

    min_records: Annotated[int, Ge(1)] = 20  # below so many a share says little, so nothing fails
    clock_skew_seconds: Annotated[float, Ge(0)] = (
        300.0  # between the clocks of browser and server; Kerberos allows this
    )
    searches_without_clicks: Limits = (0.9, 0.99)  # half of all web searches get none; hardly any click is a broken log
    clicks_without_queries: Limits = (
        0.01,
        0.5,
    )  # each is a judgment lost; the writer of UBI drops what it cannot write
    clicks_not_shown: Limits = (0.01, 0.5)  # lost likewise, for want of a position
    clicks_before_queries: Limits = (0.01, 1.0)  # they count all the same, since query_id joins them
    nothing_shown: Limits = (0.5, 0.99)  # a page of several requests has mostly one with hits
    impressions_fewer_than_hits: Limits = (0.1, 0.9)  # impressions replace the hits, so what they leave out is unseen
    shown_share: Share = (
        0.2  # of the hits; fewer impressions than on a screen of a page of ten are not all that was seen
    )
    positions_missing: Limits = (0.0, 0.5)  # such an impression is passed over
    positions_from_0: Limits = (0.0, 1.0)  # understood, and read as from 1
    positions_constant: Limits = (0.01, 0.2)  # propensities would be fitted to a place that was none
    one_client: Limits = (0.1, 1.0)  # an actor counts once a document, so one alone carries no judgment
    nobody_named: Limits = (0.1, 1.0)  # one person who reloads a page then counts as many
    bots: Limits = (0.2, 0.9)  # a fifth of the web's traffic is bad bots (Imperva 2020: 24 %); they are left out
    times_in_the_future: Limits = (0.0, 0.1)  # a clock that is wrong
    times_missing: Limits = (0.0, 1.0)  # retention by age cannot find them
    duplicates: Limits = (0.05, 1.0)  # they count once; more than this and the producer retries too soon
    dead_letters: Limits = (0.0, 0.05)  # each has its reason; this many are a format that nobody agreed on
    versions_unknown: Limits = (0.0, 1.0)  # ranked by a model that this database never had
    documents_unknown: Limits = (0.01, 0.5)  # of no use for training: there is no text


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: `found` of `total` are odd, `sentence` says what that means, `examples` where to look."""

    name: str
    grade: Grade
    found: int
    total: int
    examples: Sequence[str]
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """All checks; what came in, by application and action; and the events that join no query, by reason."""

    checks: Sequence[Check]
    account: Sequence[Mapping[str, Any]]
    orphans: Sequence[Mapping[str, Any]]

    @property
    def failed(self) -> bool:
        return any(check.grade == "FAIL" for check in self.checks)


@dataclass(frozen=True, slots=True)
class Known:
    """What this database has had: versions, and whether it has one of these documents; None when it has none at all."""

    versions: Sequence[str] | None
    unknown_documents: Callable[[Sequence[str], Progress], list[str]] | None


NOTHING_KNOWN: Final = Known(None, None)

REASONS: Final = {
    "query_refused": "their query record is a dead letter, which says why",
    "application_sends_no_queries": "their application sends no query records at all",
    "nothing_shown": "nothing was shown or chosen under their query_id: half-typed searches",
    "before_first_query": "they are older than the first query record of their application",
    "after_last_query": "they are younger than the last query record of their application, which may still come",
    "query_lost": "documents were shown or chosen, yet the producer sent no query record",
}

_MEANING: Final = {
    "searches_without_clicks": "searches got no click; without clicks there is nothing to learn from",
    "clicks_without_queries": "clicks have no query record, so their query is unknown",
    "clicks_not_shown": "clicks are on documents that the search did not show",
    "clicks_before_queries": "clicks are older than their query; clocks differ",
    "nothing_shown": "searches do not say what they showed; send hits or impressions",
    "impressions_fewer_than_hits": "searches have far fewer impressions than hits; send one for each document",
    "positions_missing": "impressions have no position; send event_attributes.position.ordinal",
    "positions_from_0": "impressions count positions from 0; they are read as from 1",
    "positions_constant": "searches show all documents at one position",
    "one_client": "clicks are of one client",
    "nobody_named": "searches name no client and no session, so nobody can be counted once",
    "bots": "searches and clicks are of bots, and are left out of what is learned",
    "times_in_the_future": "records are from the future; a clock is wrong",
    "times_missing": "query records have no timestamp",
    "duplicates": "events came again, and count once",
    "dead_letters": "records could not be used; `relevanced dead-letters list` says why",
    "versions_unknown": "query records name a version that this database does not have",
    "documents_unknown": "documents that were named are not loaded; `relevanced documents load`",
}


def validate(
    log: LogStore,
    known: Known,
    policy: ValidationPolicy,
    bot_policy: BotPolicy,
    *,
    k: int,
    now: datetime,
    progress: Progress,
) -> Report:
    """
    Check the log as of now.

    Args:
        k: a text that fewer actors typed is no example.
    """
    snapshot_id = log.snapshot()
    tables = {
        "bots": {"bots": marked_bots(log, snapshot_id, bot_policy)},
        "versions_unknown": {"known_versions": pa.table({"version": pa.array(known.versions or [], pa.string())})},
        "documents_unknown": {"unknown_documents": _unknown_documents(log, snapshot_id, known, progress)},
    }
    parameters: dict[str, dict[str, Any]] = {
        "searches_without_clicks": {"k": k},
        "clicks_before_queries": {"clock_skew_seconds": policy.clock_skew_seconds},
        "impressions_fewer_than_hits": {"shown_share": policy.shown_share},
        "times_in_the_future": {"clock_skew_seconds": policy.clock_skew_seconds, "now": now},
    }
    checks = []
    limits = _limits(policy)
    for done, (name, limit) in enumerate(limits.items(), start=1):
        (row,) = log.read(f"check_{name}", snapshot_id, tables.get(name), **parameters.get(name, {})).to_pylist()
        checks.append(_check(name, row, limit, policy.min_records, _why_nothing(name, known)))
        progress("Checking", done, len(limits))
    account, orphans = (log.read(name, snapshot_id).to_pylist() for name in ("account", "orphans"))
    return Report(checks, account, orphans)


def known_to(database: Database) -> Known:
    """What the database has had; checks against nothing at all would only say that there is nothing."""
    with database.connection() as connection:
        versions = [row["version"] for row in connection.execute(sql.postgres["known_versions"])]
        (loaded,) = connection.execute(sql.postgres["any_documents"])

    def unknown(names: Sequence[str], progress: Progress) -> list[str]:
        missing: list[str] = []
        with database.connection() as connection:
            for start in range(0, len(names), AT_ONCE):
                some = list(names[start : start + AT_ONCE])
                rows = connection.execute(sql.postgres["unknown_documents"], {"document_ids": some})
                missing += [row["document_id"] for row in rows]
                progress("Looking up documents", min(start + AT_ONCE, len(names)), len(names))
        return missing

    return Known(versions or None, unknown if loaded["loaded"] else None)


def _unknown_documents(log: LogStore, snapshot_id: int, known: Known, progress: Progress) -> pa.Table:
    missing: list[str] = []
    if known.unknown_documents is not None:
        names = log.read("named_documents", snapshot_id)["document_id"].to_pylist()
        missing = known.unknown_documents(names, progress)
    return pa.table({"document_id": pa.array(missing, pa.string())})


def _why_nothing(name: str, known: Known) -> str | None:
    """Why a check has nothing to compare with."""
    if name == "versions_unknown" and known.versions is None:
        return "not compared: there are no versions here yet"
    if name == "documents_unknown" and known.unknown_documents is None:
        return "not compared: no documents are loaded here yet"
    return None


def _check(name: str, row: Mapping[str, Any], limits: Limits, min_records: int, why_nothing: str | None) -> Check:
    if why_nothing is not None:
        return Check(name, "PASS", 0, 0, [], why_nothing)
    found, total = row["found"], row["total"]
    warn, fail = limits
    grade: Grade = "PASS"
    if found > warn * total:
        grade = "FAIL" if found > fail * total and total >= min_records else "WARN"
    return Check(name, grade, found, total, row["examples"] or [] if grade != "PASS" else [], _MEANING[name])


def _limits(policy: ValidationPolicy) -> dict[str, Limits]:
    """The checks in the order in which they are shown."""
    return {
        "dead_letters": policy.dead_letters,
        "clicks_without_queries": policy.clicks_without_queries,
        "searches_without_clicks": policy.searches_without_clicks,
        "nothing_shown": policy.nothing_shown,
        "clicks_not_shown": policy.clicks_not_shown,
        "impressions_fewer_than_hits": policy.impressions_fewer_than_hits,
        "positions_missing": policy.positions_missing,
        "positions_from_0": policy.positions_from_0,
        "positions_constant": policy.positions_constant,
        "one_client": policy.one_client,
        "nobody_named": policy.nobody_named,
        "bots": policy.bots,
        "duplicates": policy.duplicates,
        "times_in_the_future": policy.times_in_the_future,
        "times_missing": policy.times_missing,
        "clicks_before_queries": policy.clicks_before_queries,
        "versions_unknown": policy.versions_unknown,
        "documents_unknown": policy.documents_unknown,
    }
