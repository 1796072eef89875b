"""
The commands `documents attach`, `detach` and `refresh`: documents from a table or view of the operator's.

In:  options, [documents] of the settings. Out: sentences, JSON.
"""

from typing import Annotated

import typer

from relevanced.daemon.console import progress_bars, say_outcome
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Outcome
from relevanced.daemon.wiring import Parts


def attach(
    context: typer.Context,
    replace: Annotated[bool, typer.Option("--replace", help="Delete documents that are not in it.")] = False,
    as_json: Json = False,
) -> None:
    """
    Take the documents from the table or view that [documents] names, and follow it from here on.

    A table gets four triggers, named relevanced_*, and nothing else of it changes. Said again, it puts the triggers
    back, takes other settings, and goes on with a copy that was interrupted.
    """
    from relevanced.daemon.attaching import attach as attach_table

    with opened(context) as parts, progress_bars() as progress:
        attached = attach_table(parts.database, parts.settings.documents, replace=replace, progress=progress)
        _index(parts, attached, progress, as_json)


def detach(
    context: typer.Context,
    delete_documents: Annotated[bool, typer.Option("--delete-documents", help="Delete its documents here.")] = False,
    as_json: Json = False,
) -> None:
    """Take the triggers off the table again; the documents stay as they are, and may be loaded from files."""
    from relevanced.daemon.attaching import detach as detach_table

    with opened(context) as parts:
        outcome = detach_table(parts.database, delete_documents=delete_documents)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


def refresh(context: typer.Context, as_json: Json = False) -> None:
    """Compare the documents with the attached table or view, and take over what differs."""
    from relevanced.daemon.attaching import refresh as refresh_documents

    with opened(context) as parts, progress_bars() as progress:
        _index(parts, refresh_documents(parts.database, progress), progress, as_json)


def _index(parts: Parts, taken: Outcome, progress: Progress, as_json: bool) -> None:
    """Bring the indexes up to date with what was taken over; the first documents make the first version."""
    from relevanced.daemon.first_version import make_first_version
    from relevanced.daemon.following import follow

    if parts.promotion.serving().live_version_id is not None:
        indexed = follow(parts.stages)
    elif taken.numbers["documents"]:
        indexed = make_first_version(parts.stages, parts.settings.model, progress)
    else:
        indexed = Outcome("`relevanced documents refresh` makes the first version once it has rows.")
    say_outcome(as_json, f"{taken.sentence} {indexed.sentence}", {**taken.numbers, **indexed.numbers})
