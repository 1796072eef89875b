"""
The commands forget and compact.

In:  arguments, the state directory. Out: the account of what was removed, or of how small the log has become.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from relevanced.consumers.spool import SpoolSource
from relevanced.consumers.spool_erasure import erase
from relevanced.daemon.console import progress_bars, say, say_json
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.records import Outcome
from relevanced.daemon.wiring import Parts

_BUSY: Final = 20  # attempts to store what waits in the spool while a daemon does the same


def forget(
    context: typer.Context,
    client: Annotated[str | None, typer.Option(help="The client_id, as the application sends it.")] = None,
    session: Annotated[str | None, typer.Option(help="Or one session_id.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    as_json: Json = False,
) -> None:
    """
    Remove a person: their rows, what only they typed, copies and old snapshots; lists the versions trained with them.

    Examples:

      relevanced forget --client 7f0c2a41        asks for the id once more

      relevanced forget --session s-93 --yes --json
    """
    if (client is None) == (session is None) or not (client or session):
        raise BadInput("Name one person: --client ID, or --session ID.")
    from relevanced.daemon.forgetting import Person, Traces
    from relevanced.daemon.forgetting import forget as forget_person

    person = Person(kind="client" if client else "session", raw_id=str(client or session))
    if not yes and typer.prompt("What is removed does not come back. Type the id once more") != person.raw_id:
        raise BadInput("That is another id; nothing was removed.")
    with opened(context) as parts, progress_bars() as progress:
        _store_what_waits(parts)
        others: list[str] = []

        def erase_spool(traces: Traces) -> int:
            erased, files = _erase_from_spool(parts, traces.are_in)
            others.extend(map(str, files))
            return erased

        embedded = parts.settings.database_url is None
        outcome = forget_person(
            person,
            database=parts.database,
            log_store=parts.log_store,
            cycles=parts.home / "cycles",
            policy=parts.settings.privacy,
            erase_spool=erase_spool,
            own_server=parts.home / "postgres" if embedded else None,
            now=parts.clock.now(),
            progress=progress,
        )
        yours = [f"{file} was put there by others and names this person; remove it yourself." for file in others]
        if not embedded:
            yours.append(
                "Postgres is yours: its write-ahead log, backups and replicas keep old bytes until they expire."
            )
        if parts.settings.kafka.bootstrap_servers:
            yours.append("The Kafka topics are yours: their records stay until the topics' retention ends.")
        if as_json:
            say_json({"sentence": outcome.sentence, **outcome.numbers, "yours_to_do": yours})
            return
        for sentence in (outcome.sentence, *yours):
            say(sentence)


def compact(context: typer.Context, as_json: Json = False) -> None:
    """
    Write the log into few files, and drop rows past [privacy] retention_days and snapshots that nothing needs.

    The daemon does this every night, see [schedule] upkeep_cron.

    Example:

      relevanced compact --json
    """
    from relevanced.daemon.upkeep import keep_up

    with opened(context) as parts, progress_bars() as progress:
        outcome = keep_up(parts.database, parts.log_store, parts.settings.privacy, parts.clock.now(), progress)
        _answer(outcome, as_json)


def _answer(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        say_json({"sentence": outcome.sentence, **outcome.numbers})
    else:
        say(outcome.sentence)


def _store_what_waits(parts: Parts) -> None:
    """What waits in the spool may be theirs, and only the log tells."""
    from relevanced.daemon.consuming import consume_until_empty

    for attempt in range(_BUSY):
        source = SpoolSource(parts.home / "spool")
        try:
            consume_until_empty(source, parts.log_store)
            return
        except Retry:  # the daemon stores it at this moment
            if attempt == _BUSY - 1:
                raise
        finally:
            source.close()


def _erase_from_spool(parts: Parts, has_to_go: Callable[[bytes], bool]) -> tuple[int, list[Path]]:
    def moved(old: str, new: str) -> None:
        stored = parts.log_store.offsets(SpoolSource.name)
        with parts.log_store.transaction() as rows:
            rows.advance(SpoolSource.name, {new: stored[old]} if old in stored else {})

    return erase(parts.home / "spool", has_to_go, moved)
