"""
The commands `plan` and `rollback`.

In:  a version's number. Out: what building its index would take; and the version before, or any other, live again.
"""

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_outcome
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.wiring import Parts

if TYPE_CHECKING:
    from relevanced.daemon.planning import Plan


def plan(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Number of the version.", min=1)],
    as_json: Json = False,
) -> None:
    """
    Say what `prepare` would take: documents, bytes, memory, seconds, and money where [prices] are set.

    Example:

      relevanced plan 3
    """
    with opened(context) as parts:
        found = _plan(parts, number)
        if as_json:
            say_json(found.numbers())
            return
        for sentence in found.sentences():
            say(sentence)


def rollback(
    context: typer.Context,
    to: Annotated[
        int | None, typer.Option(metavar="N", help="Any version that was live; left out: the one before.", min=1)
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.")] = "by hand",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --to: only say what it would take.")] = False,
    as_json: Json = False,
) -> None:
    """
    Return to the version that was live before; said twice, it takes itself back.

    Versions that still follow the documents are live at once. The index of an older one is built again first, and what
    that takes is said before it begins.

    Examples:

      relevanced rollback --reason "complaints about short queries"

      relevanced rollback --to 3 --dry-run
    """
    from relevanced.daemon.returning import needs_rebuilding, return_to

    if to is None and dry_run:
        raise BadInput("--dry-run is about one version; name it, as in `relevanced rollback --to 3 --dry-run`.")
    with opened(context) as parts, progress_bars() as progress:
        if to is None:
            outcome = parts.promotion.rollback(actor=getpass.getuser(), reason=reason)
            say_outcome(as_json, outcome.sentence, outcome.numbers)
            return
        rebuilds = needs_rebuilding(parts.promotion.require_lived(to))
        found = _plan(parts, to) if rebuilds else None
        if found and not as_json:
            say(f"Version {to} no longer follows the documents; its index is built again, and then it is live.")
            for sentence in found.sentences():
                say(sentence)
        if dry_run:
            sentence = f"Nothing was changed; version {to} would be live {'after that' if rebuilds else 'at once'}."
            say_outcome(as_json, sentence, {"rebuilds": rebuilds, "plan": found.numbers() if found else None})
            return
        outcome = return_to(parts.stages, to, actor=getpass.getuser(), reason=reason, progress=progress)
        plan_numbers = {"plan": found.numbers()} if found else {}
        say_outcome(as_json, outcome.sentence, {**outcome.numbers, **plan_numbers})


def _plan(parts: Parts, number: int) -> "Plan":
    from relevanced.daemon import history
    from relevanced.daemon.planning import plan_index

    version = history.version(parts.database, number)
    settings, free = parts.settings, parts.index.free_bytes()
    return plan_index(parts.database, parts.models, version, settings.index, settings.prices, free)
