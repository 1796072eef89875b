"""
The commands `relevanced dead-letters list|show|replay|drop`.

In:  arguments, the state directory. Out: tables and sentences, or JSON.
"""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import pyarrow as pa
import tenacity
import typer

from relevanced.consumers.replaying import replay
from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.ports import Progress

AT_ONCE: Final = 1_000  # dead letters in one transaction
# What a person may have typed, or is called by.
_PRIVATE: Final = frozenset({"client_id", "session_id", "user_id", "user_query", "query", "message"})

dead_letters_app = typer.Typer(help="Records that could not be used, and why.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Only those whose reason holds this text.")]
Source = Annotated[str, typer.Option(help="Only those of sources whose name holds this text.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Their ids, or how these begin.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@dead_letters_app.command("list")
def list_letters(
    context: typer.Context,
    reason: Reason = "",
    source: Source = "",
    size: Annotated[int, typer.Option(min=1, help="How many on a page.")] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    as_json: Json = False,
) -> None:
    """Count the dead letters by reason, and list a page of them, the oldest first."""
    with opened(context) as parts:
        snapshot_id = parts.log_store.snapshot()
        read = parts.log_store.read
        groups = read("dead_letter_groups", snapshot_id, reason=reason, source=source).to_pylist()
        skip = (page - 1) * size
        letters = read("dead_letter_page", snapshot_id, reason=reason, source=source, size=size, skip=skip).to_pylist()
    if as_json:
        say_json({"groups": groups, "page": page, "dead_letters": letters})
        return
    total = sum(group["records"] for group in groups)
    if not total:
        say("There are no dead letters.")
        return
    say_table(
        ("records", "source", "reason"), [(group["records"], group["source"], group["reason"]) for group in groups]
    )
    rows = [
        (letter["dead_letter_id"][:12], letter["source"], f"{letter['partition']}:{letter['offset']}", letter["bytes"])
        for letter in letters
    ]
    say_table(("id", "source", "place", "bytes"), rows)
    say(f"Page {page} of {-(-total // size)}; `relevanced dead-letters show ID` prints one.")


@dead_letters_app.command("show")
def show(
    context: typer.Context,
    dead_letter_id: Annotated[str, typer.Argument(help="Its id, or how it begins.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print what people typed and are called by, too.")] = False,
    as_json: Json = False,
) -> None:
    """Print a dead letter: why, from where, and the record, with ids and texts of people withheld."""
    with opened(context) as parts:
        (letter,) = _named(parts.log_store, [dead_letter_id])
    payload = letter["payload"].decode("utf-8", errors="replace")
    letter["payload"] = payload if raw else _withheld(payload)
    if as_json:
        say_json(letter)
        return
    for name, value in letter.items():
        say(f"{name:15} {value}")


@dead_letters_app.command("replay")
def replay_command(
    context: typer.Context,
    ids: Ids = None,
    every: All = False,
    reason: Reason = "",
    source: Source = "",
    as_json: Json = False,
) -> None:
    """
    Read dead letters again; what can be used now is stored, and is no dead letter any more.

    Both happen in one transaction. What still cannot be used stays.

    Examples:

      relevanced dead-letters replay --reason "query_id"

      relevanced dead-letters replay --all
    """
    with opened(context) as parts, progress_bars() as progress:
        log = parts.log_store
        chosen = _chosen(log, ids or [], every=every, reason=reason, source=source)
        done = _in_parts(log, chosen, lambda letters: _patiently(lambda: replay(letters, log)), progress)
    _answer(as_json, f"Replayed {done:,} dead letters; {len(chosen) - done:,} still cannot be used.", done)


@dead_letters_app.command("drop")
def drop(
    context: typer.Context,
    ids: Ids = None,
    every: All = False,
    reason: Reason = "",
    source: Source = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good, after asking."""
    with opened(context) as parts, progress_bars() as progress:
        log = parts.log_store
        chosen = _chosen(log, ids or [], every=every, reason=reason, source=source)
        if not yes and not typer.confirm(f"Remove {len(chosen):,} dead letters for good?", err=True):
            raise BadInput("Nothing was removed; --yes leaves out the question.")

        def remove(letters: dict[str, bytes]) -> int:
            with log.transaction() as rows:
                rows.remove_dead_letters(list(letters))
            return len(letters)

        done = _in_parts(log, chosen, lambda letters: _patiently(lambda: remove(letters)), progress)
    _answer(as_json, f"Removed {done:,} dead letters.", done)


def _chosen(log: LogStore, ids: Sequence[str], *, every: bool, reason: str, source: str) -> list[str]:
    """
    The ids a person means.

    Raises: BadInput when nothing was said, or an id is none.
    """
    if ids:
        return [letter["dead_letter_id"] for letter in _named(log, ids)]
    if not (every or reason or source):
        raise BadInput("Say which: name ids, or give --reason TEXT, --source NAME or --all.")
    table = log.read("dead_letter_ids", log.snapshot(), reason=reason, source=source)
    names: list[str] = table["dead_letter_id"].to_pylist()
    return names


def _named(log: LogStore, prefixes: Sequence[str]) -> list[dict[str, Any]]:
    named = {"named": pa.table({"prefix": pa.array(prefixes, pa.string())})}
    letters: list[dict[str, Any]] = log.read("dead_letters_named", log.snapshot(), named).to_pylist()
    for prefix in prefixes:
        times = sum(letter["dead_letter_id"].startswith(prefix) for letter in letters)
        if times != 1:
            what = "is not the id of a dead letter" if not times else f"begins the ids of {times} dead letters"
            raise BadInput(f"{prefix!r} {what}; `relevanced dead-letters list` names them.")
    return letters


def _in_parts(log: LogStore, ids: Sequence[str], work: Callable[[dict[str, bytes]], int], progress: Progress) -> int:
    done = 0
    for start in range(0, len(ids), AT_ONCE):
        some = {letter["dead_letter_id"]: letter["payload"] for letter in _named(log, ids[start : start + AT_ONCE])}
        done += work(some)
        progress("Dead letters", start + len(some), len(ids))
    return done


def _patiently(work: Callable[[], int]) -> int:
    """Consumers write to the log too; whoever came second repeats it."""
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Retry),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
        stop=tenacity.stop_after_delay(60),
        reraise=True,
    )
    return again(work)


def _withheld(payload: str) -> str:
    try:
        record = json.loads(payload)
    except (ValueError, RecursionError):
        return f"({len(payload):,} characters that are no JSON; --raw prints them)"
    return json.dumps(_without_people(record), ensure_ascii=False)


def _without_people(value: Any) -> Any:
    """The same value; what stands under a private name is withheld, whatever its type."""
    if isinstance(value, list):
        return [_without_people(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: "(withheld)" if name in _PRIVATE else _without_people(part) for name, part in value.items()}


def _answer(as_json: bool, sentence: str, done: int) -> None:
    if as_json:
        say_json({"sentence": sentence, "dead_letters": done})
    else:
        say(sentence)
