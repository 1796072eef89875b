"""
The commands `golden load`, `list`, `export`, `drop`, `wanted` and `judge`: labels beside the clicks.

In:  options. Out: sentences, tables, JSON.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_outcome, say_table
from relevanced.daemon.opening import Json, opened

golden_app = typer.Typer(no_args_is_help=True, help="What experts, or a language model, say of query and document.")

Limit = Annotated[int, typer.Option(help="How many, those first that would tell most.", min=1)]
_TITLE_CHARACTERS = 60


@golden_app.command("load")
def load(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A directory in BEIR layout, or a file of JSON lines.")],
    split: Annotated[str, typer.Option(help="Of a directory: which of its qrels.")] = "test",
    as_json: Json = False,
) -> None:
    """
    Load judgments of experts. Their queries are held out of training from the next cycle on.

    Examples:

      relevanced golden load ./beir --split test

      relevanced golden load judged.jsonl    lines as {"user_query": "lazy eye", "document_id": "d1", "grade": 1}
    """
    from relevanced.daemon.golden import load_golden
    from relevanced.daemon.golden_files import read_judgments

    with opened(context) as parts, progress_bars() as progress:
        outcome = load_golden(parts.database, read_judgments(path, split), "expert", progress)
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
def export(context: typer.Context, file: Annotated[Path, typer.Argument(help="Where to write.")]) -> None:
    """
    Write all judgments as JSON lines, which `golden load` reads again.

    Example:

      relevanced golden export judged.jsonl
    """
    from relevanced.daemon.files import whole_file
    from relevanced.daemon.golden import golden

    with opened(context) as parts:
        found = golden(parts.database)
    count = 0
    with whole_file(file) as partial, partial.open("w", encoding="utf-8") as lines:
        for grades_of in (found.qrels, found.granted):
            for key, grades in grades_of.items():
                for name, grade in grades.items():
                    row = {"user_query": found.texts[key], "document_id": name, "grade": grade}
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
    say(f"Wrote {count:,} judgments to {file}.")


@golden_app.command("drop")
def drop(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="expert or llm.")],
    as_json: Json = False,
) -> None:
    """Forget the judgments of one source."""
    from relevanced.daemon.errors import BadInput
    from relevanced.daemon.golden import drop_golden

    if source not in ("expert", "llm"):
        raise BadInput(f"{source} is no source of judgments; name expert or llm.")
    with opened(context) as parts:
        outcome = drop_golden(parts.database, source)  # type: ignore[arg-type]  # it is one of both
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@golden_app.command("wanted")
def wanted(context: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """
    List what a gate would like to have judged: documents that a candidate shows and nobody has judged.

    Example:

      relevanced golden wanted --json --limit 100 > to-judge.json
    """
    from relevanced.daemon.golden import wishes

    with opened(context) as parts:
        rows = wishes(parts.database, limit)
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("query", "document", "title", "may change NDCG@10 by"),
            [
                (row["user_query"], row["document_id"], row["title"][:_TITLE_CHARACTERS], f"{row['gain']:.2f}")
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
                judged = GoldenJudgment(pair.user_query, pair.document_id, grade)
                load_golden(parts.database, [judged], "llm", lambda *_: None)
                loaded += 1
            progress("Judging", place, len(pairs))
        sentence = f"The language model judged {loaded:,} of {len(pairs):,} pairs."
        if unclear:
            sentence += f" {unclear:,} of its answers could not be read, and stay wished for."
        say_outcome(as_json, sentence, {"wished": len(pairs), "judged": loaded, "unclear": unclear})
