"""
The commands of `relevanced events`: files in, and the doors alone.

In:  arguments and files. Out: records in the sink; a sentence, or JSON.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from relevanced.consumers.exports import ExportReader, Format, format_of
from relevanced.daemon.console import progress_bars, say, say_json
from relevanced.daemon.errors import BadInput, DeadLetter
from relevanced.daemon.files import read_lines
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.ports import Progress, RecordSink

BATCH: Final = 1000  # records that share one fsync
SHOWN: Final = 5  # reasons in the sentence; --json has them all

AskedFormat = Literal["auto", "ubi", "langfuse", "phoenix"]

events_app = typer.Typer(help="Queries, clicks and feedback from elsewhere.", no_args_is_help=True)


@dataclass(slots=True)
class Account:
    """What became of the objects of the files."""

    queries: int = 0
    events: int = 0
    passed_over: int = 0  # that tell nothing of a search: a language model's span, a bulk action line
    refused: list[dict[str, Any]] = field(default_factory=list)


@events_app.command("load")
def load(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(help="JSON lines, an array, or pages of an API; .gz too. Those that belong together."),
    ],
    format_: Annotated[AskedFormat, typer.Option("--format", help="What they hold; auto looks at each.")] = "auto",
    as_json: Json = False,
) -> None:
    """
    Load queries, clicks and feedback from files: UBI records, or what Langfuse and Phoenix export.

    What cannot be used is left out and named, with status 1; loading a file twice counts it once.

    Examples:

      relevanced events load ubi_queries.ndjson ubi_events.ndjson.gz

      relevanced events load observations_v2.jsonl scores.jsonl        Langfuse's blob storage export

      relevanced events load spans.json span_annotations.json          Phoenix, by its REST API
    """
    formats = {file: _format(file, format_) for file in files}
    with opened(context) as parts, progress_bars() as progress:
        account = load_events(formats, parts.sink, progress)
    sentence = (
        f"Handed in {account.queries:,} queries and {account.events:,} events, passed over {account.passed_over:,}"
        f" objects without a search, and left out {len(account.refused):,}."
    )
    if as_json:
        say_json({"sentence": sentence, **asdict(account)})
    else:
        say("\n".join([sentence, *map(_refusal, account.refused[:SHOWN])]))
    if account.refused:
        raise typer.Exit(1)


@events_app.command("serve")
def serve(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the doors; else [serving] port.")] = None,
) -> None:
    """
    Take events over HTTP into the spool, and do nothing else; needs no Postgres.

    `relevanced up` opens the same doors. Use this one beside it where events must come in while `up` cannot start.
    """
    from relevanced.daemon.up import collect

    overrides = {"serving": {"port": port}} if port is not None else {}
    with opened(context, overrides) as parts:
        collect(parts)


class _Loading:
    """One run over the files: counts what it reads, and hands it in by the thousand."""

    def __init__(self, sink: RecordSink) -> None:
        self.account = Account()
        self._sink = sink
        self._waiting: list[dict[str, Any]] = []

    def take(self, found: Sequence[dict[str, Any]] | DeadLetter | None, place: tuple[Path, int]) -> None:
        """Note what an object gave: records, a reason, or None for one that is held back."""
        if isinstance(found, DeadLetter):
            self.account.refused.append({"file": str(place[0]), "object": place[1], "reason": str(found)})
            return
        if found is None:
            return
        queries = sum(1 for record in found if not record.get("action_name"))
        self.account.queries += queries
        self.account.events += len(found) - queries
        self.account.passed_over += not found
        self._waiting += found
        if len(self._waiting) >= BATCH:
            self.hand_in()

    def hand_in(self) -> None:
        if self._waiting:
            self._sink.write(self._waiting)
            self._waiting = []


def load_events(formats: Mapping[Path, Format], sink: RecordSink, progress: Progress) -> Account:
    """Hand in the records of the files; the last ones are those that had to wait for others."""
    reader, loading = ExportReader(), _Loading(sink)
    for file, kind in formats.items():
        total = sum(1 for _ in rows_of(file))
        for number, row in enumerate(rows_of(file), start=1):
            place = (file, number)
            loading.take(_read(reader, row, kind, place), place)
            progress(f"Reading {file.name}", number, total)
    for place, found in reader.held_back():
        loading.take(found, place)
    loading.hand_in()
    return loading.account


def _read(
    reader: ExportReader, row: Any, kind: Format, place: tuple[Path, int]
) -> Sequence[dict[str, Any]] | DeadLetter | None:
    try:
        if not isinstance(row, dict) or format_of(row) != kind:
            return DeadLetter(f"This is no object of {kind}.")
        return reader.read(row, kind, place)
    except DeadLetter as reason:
        return reason


def _refusal(refused: Mapping[str, Any]) -> str:
    return f"  {refused['file']}, object {refused['object']}: {refused['reason']}"


def rows_of(file: Path) -> Iterator[Any]:
    """
    Yield the objects of a file: one a line, or all of one array, or the `data` of the pages of an API.

    Raises: BadInput when the file is no JSON.
    """
    lines = read_lines(file)
    first = next(lines, None)
    if first is None:
        raise BadInput(f"{file} is empty; name a file with records.")
    head = _decoded(first[1])
    if isinstance(head, dict):
        yield from _pages(head)
        for _, line in lines:
            yield from _pages(_decoded(line))
        return
    whole = _decoded(b"\n".join([first[1], *(line for _, line in lines)]))
    if whole is None:
        raise BadInput(f"{file} is no JSON; name a file of JSON lines, or of one array.")
    yield from _pages(whole)


def _pages(found: Any) -> Iterator[Any]:
    """The objects of one JSON value."""
    if isinstance(found, list):
        yield from found
    elif isinstance(found, dict) and isinstance(found.get("data"), list):
        yield from found["data"]
    else:
        yield found


def _decoded(line: bytes) -> Any:
    """The JSON of a line, or None where there is none."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _format(file: Path, asked: AskedFormat) -> Format:
    """
    The format of a file, by its first object.

    Raises: BadInput when that is in no format that is known, or in another than was asked for.
    """
    first = next(rows_of(file), None)
    found = format_of(first) if isinstance(first, dict) else None
    if found is None:
        raise BadInput(f"{file} holds neither UBI records nor an export of Langfuse or Phoenix; see docs/events.md.")
    if asked not in ("auto", found):
        raise BadInput(f"{file} begins with an object of {found}; leave --format {asked} out.")
    return found
