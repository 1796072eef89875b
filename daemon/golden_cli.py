"""
The commands `golden load`, `list`, `export`, `drop`, `wanted` and `judge`: labels beside the clicks.

In:  options. Out: sentences, tables, JSON.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_outcome, say_table
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened

golden_app = typer.Typer(no_args_is_help=True, help="What experts, or a language model, say of query and document.")

# As golden.Source, which is not read here since the command line starts without the stores.
Source = Annotated[Literal["expert", "llm"], typer.Option(help="Who has judged.")]
Limit = Annotated[int, typer.Option(help="How many, those first that would tell most.", min=1)]
_TITLE_CHARACTERS = 60


@golden_app.command("load")
def load(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A directory in BEIR layout, or a file of JSON lines.")],
    split: Annotated[str, typer.Option(help="Of a directory: which of its qrels.")] = "test",
    source: Source = "expert",
    as_json: Json = False,
) -> None:
    """
    Load judgments, all of a file or none. Their queries are held out of training from the next cycle on.

    Examples:

      relevanced golden load ./beir --split test

      relevanced golden load judged.jsonl    lines as {"user_query": "lazy eye", "document_id": "d1", "grade": 1};
                                             a grade of null is not given yet, and passed over;
                                             "wished": true, as `golden wanted` writes, answers a gate's wish
    """
    from relevanced.daemon.golden import load_golden
    from relevanced.daemon.golden_files import read_judgments

    with opened(context) as parts, progress_bars() as progress:
        outcome = load_golden(parts.database, read_judgments(path, split), source, progress)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@golden_app.command("list")
def list_golden(context: typer.Context, as_json: Json = False) -> None:
    """Say how much each source has judged."""
    from relevanced.daemon.golden import golden_counts

    with opened(context) as parts:
        rows = golden_counts(parts.database)
    if as_json:
        say_json(rows)
    elif rows:
        of = {False: "golden set", True: "wished for by a gate"}
        say_table(
            ("source", "of the", "queries", "judgments", "latest"),
            [
                (row["source"], of[row["wished"]], row["queries"], row["judgments"], f"{row['latest']:%Y-%m-%d %H:%M}")
                for row in rows
            ],
        )
    else:
        say("There are no golden judgments; `relevanced golden load PATH` brings some.")


@golden_app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to write.")],
    source: Source = "expert",
    as_json: Json = False,
) -> None:
    """
    Write what one source has judged as JSON lines, which `golden load` with the same source reads again.

    Example:

      relevanced golden export judged.jsonl
    """
    from relevanced.daemon.golden import judgments_of
    from relevanced.daemon.golden_files import write_lines

    with opened(context) as parts:
        found = judgments_of(parts.database, source)
    if not found:
        raise BadInput(f"There are no judgments by {source} to write; `relevanced golden list` says what there is.")
    write_lines(file, [row._asdict() for row in found])
    say_outcome(as_json, f"Wrote {len(found):,} judgments to {file}.", {"judgments": len(found)})


@golden_app.command("drop")
def drop(
    context: typer.Context,
    source: Annotated[Literal["expert", "llm"], typer.Argument(help="Whose judgments.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """
    Forget the judgments of one source for good, after asking; training may have their queries again.

    Example:

      relevanced golden drop llm
    """
    from relevanced.daemon.golden import drop_golden, golden_counts

    with opened(context) as parts:
        count = sum(row["judgments"] for row in golden_counts(parts.database) if row["source"] == source)
        if count and not yes and not typer.confirm(f"Remove {count:,} judgments for good?", err=True):
            raise BadInput("Nothing was removed; --yes leaves out the question.")
        outcome = drop_golden(parts.database, source)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@golden_app.command("wanted")
def wanted(
    context: typer.Context,
    limit: Limit = 20,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them as JSON lines, each with a grade to fill in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    List what a gate would like to have judged: documents that a candidate shows and nobody has judged.

    Example:

      relevanced golden wanted --limit 100 --to judge.jsonl    put a number in place of each null

      relevanced golden load judge.jsonl                       what is left at null is passed over
    """
    from relevanced.daemon.documents import shortened
    from relevanced.daemon.golden import wishes
    from relevanced.daemon.golden_files import write_lines

    with opened(context) as parts:
        rows = [{**row, "grade": None, "wished": True} for row in wishes(parts.database, limit)]
    if to is not None:
        write_lines(to, rows)
        say_outcome(as_json, f"Wrote {len(rows):,} pairs to {to}.", {"pairs": len(rows)})
    elif as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("query", "document", "title", "may change NDCG@10 by"),
            [
                (
                    row["user_query"],
                    row["document_id"],
                    shortened(row["title"] or row["text"], _TITLE_CHARACTERS),
                    f"{row['gain']:.2f}",
                )
                for row in rows
            ],
        )
    else:
        say("No gate wishes for a judgment.")


@golden_app.command("judge")
def judge(context: typer.Context, limit: Limit = 100, as_json: Json = False) -> None:
    """
    Let the language model of [llm] judge what a gate wishes to know. Queries and documents are sent to it.

    Example:

      relevanced golden judge --limit 50
    """
    from relevanced.daemon.documents import document_text
    from relevanced.daemon.golden import GoldenJudgment, load_golden, wishes
    from relevanced.daemon.llm import Judge, Pair

    with opened(context) as parts, progress_bars() as progress:
        model = Judge(parts.settings.llm)
        rows = wishes(parts.database, limit)
        pairs = [Pair(row["user_query"], row["document_id"], document_text(row["title"], row["text"])) for row in rows]
        unclear, loaded = 0, 0
        for place, (pair, grade) in enumerate(model.grades(pairs), start=1):
            unclear += grade is None
            if grade is not None:  # at once, so that what was paid for is never lost
                judged = GoldenJudgment(pair.user_query, pair.document_id, grade, wished=True)
                load_golden(parts.database, [judged], "llm", lambda *_: None)
                loaded += 1
            progress("Judging", place, len(pairs))
        sentence = f"The language model judged {loaded:,} of {len(pairs):,} pairs."
        if not pairs:
            sentence = "No gate wishes for a judgment."
        elif unclear:
            sentence += f" {unclear:,} got no clear answer or a refusal, and stay wished for."
        say_outcome(as_json, sentence, {"wished": len(pairs), "judged": loaded, "unclear": unclear})
