"""
The commands `trial start`, `trial stop`, `trial check` and `trial list`.

In:  options. Out: sentences, or JSON.
"""

from typing import Annotated

import typer

from relevanced.daemon.console import out, say, say_json
from relevanced.daemon.opening import opened

trial_app = typer.Typer(no_args_is_help=True, help="Try a version on people before it is live: clicks decide.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]


@trial_app.command()
def start(
    context: typer.Context,
    version_id: Annotated[int, typer.Argument(metavar="VERSION", help="A verified version that is not live.")],
) -> None:
    """
    Put a version on trial: [trial] share of the sessions get its documents among live's.

    The daemon promotes it when people prefer it, and rejects it when they don't.

    Example:

      relevanced trial start 4
    """
    from relevanced.daemon.tryout import begin_trial

    with opened(context) as parts:
        say(begin_trial(parts.stages, version_id, "promotion").sentence)


@trial_app.command()
def stop(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why; kept in the list.")] = "Stopped by an operator",
) -> None:
    """End the trial that runs, without a verdict; live stays."""
    from relevanced.daemon.tryout import stop_trial

    with opened(context) as parts:
        say(stop_trial(parts.stages, reason).sentence)


@trial_app.command()
def check(context: typer.Context) -> None:
    """Look at the trial now, and act on it; the daemon does so every ten minutes."""
    from relevanced.daemon.tryout import check_trial

    with opened(context) as parts:
        outcome = check_trial(parts.stages, parts.clock.now())
        say(outcome.sentence if outcome else "No version is on trial.")


@trial_app.command("list")
def list_trials(context: typer.Context, as_json: Json = False) -> None:
    """List the trials, the newest first."""
    from relevanced.daemon.status import trials_table
    from relevanced.daemon.tryout import trials

    with opened(context) as parts:
        rows = trials(parts.database)
        if as_json:
            say_json({"trials": rows})
        else:
            out.print(trials_table(rows))
