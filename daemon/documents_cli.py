"""
The commands `documents attach`, `detach` and `refresh`, for a table or view of the operator's; and `documents delete`.

In:  options, [documents] of the settings, ids. Out: sentences, JSON.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from relevanced.daemon.console import progress_bars, say_outcome
from relevanced.daemon.errors import BadInput
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


def delete(
    context: typer.Context,
    document_ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids of documents.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with one id in each line; - is stdin.")] = None,
    as_json: Json = False,
) -> None:
    """Delete documents, here and from every index that follows them."""
    from relevanced.daemon.documents import delete_documents
    from relevanced.daemon.following import follow

    named = [*(document_ids or []), *(_lines(file) if file else [])]
    if not named:
        raise BadInput("Name the documents to delete: `relevanced documents delete ID...`, or --file FILE.")
    with opened(context) as parts:
        deleted = delete_documents(parts.database, named)
        indexed = follow(parts.stages)
        say_outcome(as_json, f"{deleted.sentence} {indexed.sentence}", {**deleted.numbers, **indexed.numbers})


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}.") from error
    return [line for line in text.splitlines() if line.strip()]


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
