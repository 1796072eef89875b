"""
The command `assess`: is fine-tuning worth it yet?

In:  options. Out: a table of ways to rank, a learning curve and advice; or JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened

if TYPE_CHECKING:
    from relevanced.daemon.assessment import Assessment, Way

_BAR = 15  # characters of an NDCG@10 of 1


def assess(
    context: typer.Context,
    qrels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Labelled queries in BEIR layout: queries.jsonl, qrels/test.tsv to measure by and, if it is there,"
            " qrels/train.tsv to teach; else the held-out queries and the triplets of the newest cycle.",
        ),
    ] = None,
    contexts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Words before each document: {"document_id": "d1", "context": "…"} a line.'),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="An embedding model of [llm]'s endpoint, to measure beside; repeatable."),
    ] = None,
    curve: Annotated[bool, typer.Option(help="Fine-tune on growing parts of what there is; takes minutes.")] = True,
    pairs: Annotated[int, typer.Option(help="How many pairs are taught at most.", min=4)] = 1000,
    as_json: Json = False,
) -> None:
    """
    Say whether fine-tuning is worth it yet, or something simpler first. Nothing is changed.

    Examples:

      relevanced assess --qrels ./labels             before any click

      relevanced assess                              on what people clicked

      relevanced assess --reference text-embedding-3-small --no-curve
    """
    from relevanced.daemon.assessing import assess as measure
    from relevanced.daemon.assessment import advice
    from relevanced.daemon.lessons import lessons_of_cycle, lessons_of_labels
    from relevanced.daemon.reference import OpenAiEncoder

    with opened(context) as parts, progress_bars() as progress:
        stages = parts.stages
        # What may be refused at once comes before what takes long.
        before = _contexts(contexts) if contexts else None
        references = [(name, OpenAiEncoder(name, parts.settings.llm)) for name in reference or ()]
        if qrels is not None:
            judged, triplets = lessons_of_labels(stages, qrels, teach=curve, progress=progress)
        else:
            judged, triplets = lessons_of_cycle(stages, teach=curve)
        found = measure(
            stages,
            judged,
            contexts=before,
            references=references,
            triplets=triplets,
            most_pairs=pairs,
            progress=progress,
        )
    sentences = advice(found)
    if as_json:
        say_json({"advice": sentences, **asdict(found)})
    else:
        _say(found, sentences)


def _contexts(file: Path) -> Mapping[str, str]:
    import msgspec

    from relevanced.daemon.files import read_lines

    found = {}
    for number, line in read_lines(file):
        try:
            row: Any = msgspec.json.decode(line)
            found[row["document_id"]] = row["context"].strip()
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            raise BadInput(
                f'{file.name}, line {number}: write a line as {{"document_id": "d1", "context": "of the tax law"}}.'
            ) from None
    return found


def _say(found: "Assessment", sentences: list[str]) -> None:
    from relevanced.daemon.assessment import LIVE

    say(f"{found.queries:,} {found.source}; differences from the live model with their 95 % intervals.\n")
    rows = [
        *((name, way, "" if name == LIVE else str(way)) for name, way in found.ways.items()),
        *((f"fine-tuned on {count:,} pairs", way, str(way)) for count, way in found.curve),
    ]
    _say_ways("way", rows)
    if found.stacked:
        say(f"\nThe model that {found.curve[-1][0]:,} pairs taught, in the place of the live model:\n")
        _say_ways("behind it", [(name, way, str(way)) for name, way in found.stacked.items()])
    for sentence in ["", *sentences, *found.remarks]:
        say(sentence)


def _say_ways(heading: str, rows: "Sequence[tuple[str, Way, str]]") -> None:
    say_table(
        (heading, "NDCG@10", "", "difference"),
        [(name, f"{way.ndcg:.3f}", "█" * round(_BAR * way.ndcg), difference) for name, way, difference in rows],
    )
