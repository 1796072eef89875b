"""
The command `history`.

In:  how many changes. Out: who changed what is live, when, from where and why, the newest first.
"""

from typing import Annotated

import typer

from relevanced.daemon.console import say, say_json
from relevanced.daemon.opening import Json, opened


def history_command(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many changes, the newest first.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """
    Say who changed what is live: when, from which version to which, from what machine, and why.

    Example:

      relevanced history --limit 5
    """
    from relevanced.daemon import history
    from relevanced.daemon.status import change_sentence

    with opened(context) as parts:
        changes = history.serving_history(parts.database)[:limit]
        if as_json:
            say_json(changes)
            return
        if not changes:
            say("No version was live yet; `relevanced documents load FILE` makes the first.")
        for change in changes:
            say(change_sentence(change))
