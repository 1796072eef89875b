"""
The commands forget and compact.

In:  arguments, the state directory. Out: the account of what was removed, or of how small the log has become.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from relevanced.consumers.spool import SpoolSource
from relevanced.consumers.spool_erasure import erase
from relevanced.daemon.console import progress_bars, say, say_json
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.records import Outcome
from relevanced.daemon.wiring import Parts


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
    """
    Store what is in the spool now: it may be theirs, and only the log tells.

    A daemon may do the same meanwhile, and others write to the spool; what counts is that what was there is stored.
    Raises: Retry when it does not get there for minutes.
    """
    from relevanced.consumers.loop import MAX_RECORDS
    from relevanced.daemon.upkeep import patiently

    with closing(SpoolSource(parts.home / "spool")) as source:
        ends: dict[str, int] = {}
        source.seek(parts.log_store.offsets(source.name))
        while (batch := source.poll(MAX_RECORDS)).next_offsets:
            ends |= batch.next_offsets
        patiently(lambda: _store_up_to(ends, source, parts))


def _store_up_to(ends: Mapping[str, int], source: SpoolSource, parts: Parts) -> None:
    from relevanced.consumers.dead_letters import BadShare, IngestPolicy
    from relevanced.consumers.loop import step

    log_store = parts.log_store
    bad_share = BadShare(source.name, IngestPolicy(max_bad_share=1.0))  # what nobody can read is searched too
    while any((stored := log_store.offsets(source.name)).get(partition, 0) < end for partition, end in ends.items()):
        source.seek(stored)
        if step(source, log_store, bad_share).verdict == "nothing":  # a file that was taken away unread
            return


def _erase_from_spool(parts: Parts, has_to_go: Callable[[bytes], bool]) -> tuple[int, list[Path]]:
    @contextmanager
    def moving(old: str, new: str) -> Iterator[None]:
        with parts.log_store.transaction() as rows:
            stored = parts.log_store.offsets(SpoolSource.name)
            # Whoever has a batch of the old name in hand finds its offset changed, gives the batch up and looks again.
            rows.advance(SpoolSource.name, {new: stored[old], old: 0} if old in stored else {})
            yield

    return erase(parts.home / "spool", has_to_go, moving)
