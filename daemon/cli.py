"""
The command line: one function a command; each reads like the help it prints.

In:  arguments, the state directory. Out: a sentence (or JSON with --json), and an exit status.
"""

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relevanced.daemon.approval_cli import approve, reject
from relevanced.daemon.assess_cli import assess
from relevanced.daemon.compare_cli import compare
from relevanced.daemon.config import home_directory
from relevanced.daemon.console import progress_bars, say, say_json, say_outcome
from relevanced.daemon.dead_letters_cli import dead_letters_app
from relevanced.daemon.documents_cli import attach, delete, detach, refresh
from relevanced.daemon.errors import BadInput
from relevanced.daemon.events_cli import events_app
from relevanced.daemon.golden_cli import golden_app
from relevanced.daemon.history_cli import history_command
from relevanced.daemon.models_cli import models
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.privacy_cli import compact, forget
from relevanced.daemon.records import Outcome
from relevanced.daemon.rehearsal.cli import demo, rehearse
from relevanced.daemon.reproduce_cli import reproduce
from relevanced.daemon.rollback_cli import plan, rollback
from relevanced.daemon.telemetry import configure_logging
from relevanced.daemon.trial_cli import trial_app
from relevanced.daemon.triplets_cli import triplets_app
from relevanced.daemon.tune_cli import tune_app
from relevanced.daemon.validate_cli import validate_command
from relevanced.daemon.versions_cli import versions_app

EXAMPLES = """
Examples:

  relevanced documents load corpus.jsonl    make the first version from your documents

  relevanced search "high blood pressure"   ask the live version

  relevanced up                             consumers, scheduler and search API together

  relevanced status                         what is live, since when, and why
"""

app = typer.Typer(
    help="Keeps the embedding model behind a search getting better from its own traffic.\n" + EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
documents_app = typer.Typer(help="The documents that are searched.", no_args_is_help=True)
cycle_app = typer.Typer(help="One turn of the loop: mine, train, gate, index, verify, promote.", no_args_is_help=True)
app.add_typer(documents_app, name="documents")
app.add_typer(cycle_app, name="cycle")
app.add_typer(events_app, name="events")
documents_app.command("delete")(delete)
documents_app.command("attach")(attach)
documents_app.command("detach")(detach)
documents_app.command("refresh")(refresh)
app.command("rehearse")(rehearse)
app.command("demo")(demo)
app.command("forget")(forget)
app.command("compact")(compact)
app.command("assess")(assess)
app.command("compare")(compare)
app.command("reproduce")(reproduce)
app.command("models")(models)
app.command("approve")(approve)
app.command("reject")(reject)
app.command("plan")(plan)
app.command("rollback")(rollback)
app.command("history")(history_command)
app.command("validate")(validate_command)
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(golden_app, name="golden")
app.add_typer(trial_app, name="trial")
app.add_typer(triplets_app, name="triplets")
app.add_typer(tune_app, name="tune")
app.add_typer(versions_app, name="versions")

Number = Annotated[int, typer.Argument(help="Number of the version, as `relevanced versions` lists it.", min=1)]


@app.callback()
def common(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="State directory; else RELEVANCED_HOME, else ~/.relevanced.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings; else relevanced.toml in the state directory.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of a failure.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Read the settings before any command does anything."""
    if version:
        from importlib.metadata import version as version_of

        say(f"relevanced {version_of('relevanced')}")
        raise typer.Exit
    directory = home.expanduser().resolve() if home else home_directory()
    if config is not None and not config.exists():
        raise BadInput(f"{config} does not exist; leave --config out to use {directory / 'relevanced.toml'}.")
    configure_logging(debug=debug)
    context.obj = (directory, config)


@app.command()
def init(context: typer.Context) -> None:
    """Create the state directory, the database and the log store; every other command does it on first use too."""
    with opened(context) as parts:
        parts.log_store.snapshot()
        say(f"Ready in {parts.home}. Next: `relevanced documents load FILE`.")


@documents_app.command("load")
def documents_load(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="BEIR corpus.jsonl (_id, title, text); .gz too.")],
    as_json: Json = False,
) -> None:
    """Load or update documents; the first load makes version 1 from the base model."""
    from relevanced.consumers.documents import read_corpus
    from relevanced.daemon.documents import load_documents
    from relevanced.daemon.first_version import make_first_version
    from relevanced.daemon.following import follow

    with opened(context) as parts, progress_bars() as progress:
        loaded = load_documents(parts.database, read_corpus(file), progress)
        if parts.promotion.serving().live_version_id is None:
            indexed = make_first_version(parts.stages, parts.settings.model, progress)
        else:
            indexed = follow(parts.stages)
        say_outcome(as_json, f"{loaded.sentence} {indexed.sentence}", {**loaded.numbers, **indexed.numbers})


@app.command()
def consume(
    context: typer.Context,
    until_empty: Annotated[bool, typer.Option(help="End when there is nothing left to take.")] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="Before that, let the Kafka topics go on from here: beginning, latest, an offset (the nearest that a"
            " partition has), a moment such as 2026-01-31T00:00Z, or how long ago, such as 90m, 12h or 7d.",
        ),
    ] = None,
) -> None:
    """
    Take events from the spool, and from Kafka where it is set up, into the log store; `up` does this too.

    The group's other consumers follow --from too. What is read a second time is stored a second time, and counted once:
    mining knows each search, showing and click by its ids.

    Examples:

      relevanced consume                              until Ctrl-C

      relevanced consume --from 7d --until-empty      the topics' last week once more
    """
    from relevanced.daemon.consuming import consume_all, consume_until_empty, stop_on_signals

    with opened(context) as parts:
        if start is not None:
            say(parts.replay(start).sentence)
        parts.log_store.only_write()
        openers = parts.source_openers()
        if not until_empty:
            consume_all(openers, parts.log_store, stop_on_signals(), parts.settings.ingest)
            return
        for source in [open_source() for open_source in openers.values()]:
            say(consume_until_empty(source, parts.log_store, parts.settings.ingest).sentence)
            source.close()


@app.command()
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", help="How many documents.")] = 10,
    as_json: Json = False,
) -> None:
    """Search by the live version; the search is logged like any other."""
    from relevanced.daemon.records import SearchRequest

    with opened(context) as parts:
        (answer,) = parts.search.search([SearchRequest(user_query=text, k=k, application="cli")])
        if as_json:
            say_json(asdict(answer))
            return
        say(f"Version {answer.version_id}, query {answer.query_id}")
        for hit in answer.hits:
            say(f"{hit.position:3}. {hit.score:.3f}  {hit.title or hit.document_id}  [{hit.document_id}]")


@cycle_app.command("run")
def cycle_run(context: typer.Context, as_json: Json = False) -> None:
    """Run a cycle now, or go on with the one that was interrupted."""
    from relevanced.daemon import history
    from relevanced.daemon.cycle import begin_cycle
    from relevanced.daemon.wiring import run_open_cycle

    with opened(context) as parts, progress_bars() as progress:
        cycle = begin_cycle(parts.database, f"cli, {getpass.getuser()}")

        def tell(_step: str, outcome: Outcome, _seconds: float) -> None:
            if not as_json:
                say(outcome.sentence)

        ended = run_open_cycle(parts, cycle, progress, tell)
        steps = history.steps(parts.database, ended.cycle_id)
        if as_json:
            say_json({**asdict(ended), "steps": steps})
        if any(step["verdict"] == "failed" for step in steps):
            raise typer.Exit(1)


@app.command()
def up(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; else [serving] port.")] = None,
    search_only: Annotated[
        bool, typer.Option(help="Serve the API alone, beside another `up` that does the rest.")
    ] = False,
) -> None:
    """Run consumers, scheduler and search API together until Ctrl-C."""
    from relevanced.daemon.up import Daemon

    overrides = {"serving": {"port": port}} if port is not None else {}
    with opened(context, overrides) as parts:
        Daemon(parts, search_only=search_only).run()


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Say what is live, since when and why, what the last cycle did, and how much has come in."""
    from relevanced.daemon.status import status_of, status_sentences

    with opened(context) as parts:
        found = status_of(parts.database, parts.log_store, parts.tuned.found())
        if as_json:
            say_json(found)
        else:
            for sentence in status_sentences(found):
                say(sentence)


@app.command()
def prepare(context: typer.Context, number: Number, as_json: Json = False) -> None:
    """Build the index of a version beside the live one; nothing is encoded twice."""
    from relevanced.daemon import history

    with opened(context) as parts, progress_bars() as progress:
        version = history.version(parts.database, number)
        outcome = parts.index.prepare(number, parts.models.open(version.directory), progress)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@app.command()
def verify(context: typer.Context, number: Number, as_json: Json = False) -> None:
    """Check the index of a version against documents, model, exact search and live's speed; status 1 when it fails."""
    from relevanced.daemon import history
    from relevanced.daemon.attaching import count_lost
    from relevanced.daemon.steps import verify_version

    with opened(context) as parts:
        outcome = verify_version(parts.stages, history.version(parts.database, number), [])
        lost, sentence = count_lost(parts.database)
        say_outcome(as_json, outcome.sentence + sentence, {**outcome.numbers, "lost_changes": lost})
        if outcome.verdict != "accepted":
            raise typer.Exit(1)


Reason = Annotated[str, typer.Option(help="Why; it stands in the history.")]


@app.command()
def promote(context: typer.Context, number: Number, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Put a verified version in place of the live one, once each process that searches has it loaded."""
    from relevanced.daemon.tryout import observe

    with opened(context) as parts, progress_bars() as progress:
        outcome = parts.promotion.promote(number, actor=getpass.getuser(), reason=reason, progress=progress)
        observed = observe(parts.stages) if "previous_version" in outcome.numbers else ""  # else it was live already
        say_outcome(as_json, outcome.sentence + observed, outcome.numbers)
