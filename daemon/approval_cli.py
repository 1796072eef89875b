"""
The commands `approve` and `reject`: a person's word on the version that waits.

In:  its number, a reason. Out: a sentence, or JSON.
"""

import getpass
from typing import Annotated

import typer

from relevanced.daemon.console import say_outcome
from relevanced.daemon.opening import Json, opened

Number = Annotated[int, typer.Argument(help="Number of the version that waits; `relevanced status` names it.", min=1)]
Reason = Annotated[str, typer.Option(help="Why; it stands in the history.")]


def approve(context: typer.Context, number: Number, reason: Reason = "by hand", as_json: Json = False) -> None:
    """
    Make the version live that waits for approval, see [gate] approval.

    Example:

      relevanced approve 5 --reason "looked at twenty queries"
    """
    from relevanced.daemon import approval
    from relevanced.daemon.tryout import observe

    with opened(context) as parts:
        outcome = approval.approve(parts.stages, number, getpass.getuser(), reason)
        say_outcome(as_json, outcome.sentence + observe(parts.stages), outcome.numbers)


def reject(context: typer.Context, number: Number, reason: Reason = "by hand", as_json: Json = False) -> None:
    """
    Refuse the version that waits for approval; the live one stays.

    Example:

      relevanced reject 5 --reason "part numbers got worse"
    """
    from relevanced.daemon import approval

    with opened(context) as parts:
        outcome = approval.reject(parts.stages, number, getpass.getuser(), reason)
        say_outcome(as_json, outcome.sentence, outcome.numbers)
