"""
The command `reproduce`: a trained version made once more, to see whether it comes out the same.

In:  a version's number. Out: a sentence or JSON; status 0 when it was reproduced, 1 when not.
"""

from typing import Annotated

import typer

from relevanced.daemon.console import progress_bars, say_outcome
from relevanced.daemon.opening import Json, opened


def reproduce(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Number of the version, as `relevanced versions` lists it.", min=1)],
    as_json: Json = False,
) -> None:
    """
    Mine and train a version once more, from the log as of its snapshot, and compare: status 1 where it differs.

    On a CPU the weights must be the same, bit for bit; on a GPU NDCG@10 on the version's holdout, within .002. It
    takes as long as the training did, works in the folder for temporary files (TMPDIR), and changes nothing.

    Example:

      relevanced reproduce 3
    """
    from relevanced.daemon import history
    from relevanced.daemon.reproduction import reproduce as reproduced

    with opened(context) as parts, progress_bars() as progress:
        outcome = reproduced(parts.stages, history.version(parts.database, number), progress)
        say_outcome(as_json, outcome.sentence, outcome.numbers)
        if outcome.verdict != "accepted":
            raise typer.Exit(1)
