"""
The command `relevanced validate`.

In:  a file or directory of UBI records, or the log store. Out: a table, or JSON; status 1 when a check fails.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relevanced.consumers.files import FilesSource
from relevanced.consumers.replaying import read_some
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.passing_log import passing_log
from relevanced.daemon.ports import Progress
from relevanced.daemon.validation import NOTHING_KNOWN, REASONS, Report, known_to, validate
from relevanced.daemon.wiring import Parts


def validate_command(
    context: typer.Context,
    place: Annotated[
        Path | None, typer.Argument(metavar="[FILE|DIRECTORY]", help="UBI records, packed or not; else the log store.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Check whether the log, or a file of UBI records, is fit to learn from; status 1 when a check fails.

    A file is read into a log that passes when the command ends; nothing is stored.

    Examples:

      relevanced validate                    the log store

      relevanced validate events.ndjson.gz   a file, OpenSearch's bulk format too
    """
    with opened(context) as parts, progress_bars() as progress:
        if place is None:
            report = _report(parts, parts.log_store, progress)
        else:
            source = FilesSource(place)
            with passing_log(parts.settings.privacy) as log:
                while read_some(source, log):
                    progress("Reading", source.files_read, len(source.files))
                report = _report(parts, log, progress)
    if as_json:
        say_json({**asdict(report), "failed": report.failed})
    else:
        _print(report)
    if report.failed:
        raise typer.Exit(1)


def _report(parts: Parts, log: LogStore, progress: Progress) -> Report:
    """A file is compared with this database only where there is one."""
    settings = parts.settings
    here = (
        settings.database_url is not None
        or (parts.home / "postgres").exists()
        or log is parts.__dict__.get("log_store")
    )
    known = known_to(parts.database) if here else NOTHING_KNOWN
    now = SystemClock().now()
    return validate(log, known, settings.validation, settings.bots, k=settings.privacy.k, now=now, progress=progress)


def _print(report: Report) -> None:
    rows = [
        (
            check.grade,
            check.name,
            f"{check.found:,} of {check.total:,}",
            "\n".join([check.sentence, *check.examples[:3]]),
        )
        if check.grade != "PASS" or not check.total
        else (check.grade, check.name, f"{check.found:,} of {check.total:,}", "")
        for check in report.checks
    ]
    say_table(("", "check", "found", "what that means, and examples"), rows)
    actions = [
        (line["application"], line["action"], line["records"], line["joined"], line["alone"]) for line in report.account
    ]
    if actions:
        say_table(("application", "action", "records", "joined", "alone"), actions)
    orphans = [
        (line["application"], line["events"], line["impressions_and_clicks"], line["searches"], REASONS[line["reason"]])
        for line in report.orphans
    ]
    if orphans:
        say_table(("application", "events", "shown, clicked", "query_ids", "join no query, since"), orphans)
    failed = [check.name for check in report.checks if check.grade == "FAIL"]
    warned = sum(check.grade == "WARN" for check in report.checks)
    say(f"{len(failed)} checks failed{': ' if failed else ''}{', '.join(failed)}; {warned} warn.")
