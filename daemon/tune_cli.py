"""
The commands `tune` and `tune drop`.

In:  options. Out: the trials in a table and a sentence, or JSON.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Final

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_outcome, say_table
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened

tune_app = typer.Typer()

_FEWEST: Final = 2  # trials that make a comparison
_SHOWN: Final = 5  # of the best trials
_STOPPED: Final = 130  # as every command that Ctrl-C has ended


@tune_app.callback(invoke_without_command=True)
def tune(
    context: typer.Context,
    trials: Annotated[
        int, typer.Option(help="Recipes that are tried in all, the present one and those before included.")
    ] = 20,
    seconds: Annotated[
        float | None, typer.Option(help="That the search takes in all, likewise; else whatever it takes.")
    ] = None,
    cycle: Annotated[int | None, typer.Option(help="Whose triplets; else the newest that has ended.")] = None,
    as_json: Json = False,
) -> None:
    """
    Search for a better training recipe on the triplets of a cycle, and let later cycles train by it.

    What [training] sets is left alone. Stopped or killed, the same command goes on where it was. See docs/training.md.

    Examples:

      relevanced tune --seconds 7200    for two hours

      relevanced tune --trials 40       20 more, after the first 20

      relevanced tune drop              back to [training] alone
    """
    if context.invoked_subcommand is not None:
        return
    if trials < _FEWEST:
        raise BadInput(f"--trials {trials} compares nothing; the present recipe and another one are {_FEWEST}.")
    if seconds is not None and seconds <= 0:
        raise BadInput(f"--seconds {seconds:g} leaves no time to try anything; give some minutes, or leave it out.")
    if find_spec("optuna") is None:
        raise BadInput("The search needs Optuna, which is not installed here; pip install 'relevanced[tune]'.")
    from relevanced.daemon.tuning import Budget
    from relevanced.daemon.tuning import tune as search

    with opened(context) as parts, progress_bars() as progress:
        outcome = search(parts.stages, cycle, Budget(trials=trials, seconds=seconds), parts.clock.now(), progress)
    if as_json:
        say_json({"sentence": outcome.sentence, **outcome.numbers})
    else:
        _say_trials(outcome.numbers["trials"])
        say(outcome.sentence)
    if outcome.numbers["stopped"]:
        raise typer.Exit(_STOPPED)


@tune_app.command("drop")
def drop(context: typer.Context, as_json: Json = False) -> None:
    """Let the next cycles train by [training] alone; the search itself is kept, and can go on."""
    with opened(context) as parts:
        dropped = parts.tuned.drop()
    sentence = "The next cycles train by [training] alone." if dropped else "No recipe of a search was kept."
    say_outcome(as_json, sentence, {"dropped": dropped})


def _say_trials(trials: list[Mapping[str, Any]]) -> None:
    from relevanced.daemon.tuned import said

    measured = [trial for trial in trials if trial["ndcg"] is not None]
    if not measured:
        return
    first, *others = measured
    best = sorted(others, key=lambda trial: -trial["ndcg"])[:_SHOWN]
    rows = []
    for trial in [first, *best]:
        differs = {name: value for name, value in trial["settings"].items() if value != first["settings"][name]}
        rows.append((trial["trial"], f"{trial['ndcg']:.3f}", said(differs) if trial is not first else "at first"))
    say_table(("trial", "NDCG@10", "what differs"), rows)
    say("")
