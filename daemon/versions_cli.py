"""
The commands `versions`, `versions show`, `versions at`, `versions drop`, `versions export` and `versions import`.

In:  options. Out: a table, sentences, or JSON; and a version's files, out or in.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from relevanced.daemon.console import out, say, say_json, say_outcome
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.presets import PoolingMode
from relevanced.daemon.records import Outcome, Version
from relevanced.daemon.wiring import Parts

versions_app = typer.Typer()

Licence = Annotated[
    str | None,
    typer.Option("--license", help="As the Hugging Face Hub writes it, such as mit; else what is known of the model."),
]


@versions_app.callback(invoke_without_command=True)
def versions(context: typer.Context, as_json: Json = False) -> None:
    """
    List the versions: what each came from, how good it is, which one is live.

    Examples:

      relevanced versions

      relevanced versions show 2                   how one was made, and what it has cost

      relevanced versions export 2 --to ./model    its files, for other tools

      relevanced versions import ./model           a model made elsewhere

      relevanced versions at 2026-01-31T09:00Z     what was live then

      relevanced versions drop                     what [retention] no longer keeps
    """
    from relevanced.daemon import history
    from relevanced.daemon.status import versions_table

    if context.invoked_subcommand is not None:
        return
    with opened(context) as parts:
        known, serving = history.versions(parts.database), parts.promotion.serving()
        sizes = history.index_sizes(parts.database)
        if as_json:
            rows = [{**asdict(version), "index_bytes": sizes.get(version.index_id)} for version in known]
            say_json({"versions": rows, "serving": asdict(serving)})
        else:
            out.print(versions_table(known, serving, sizes))


@versions_app.command()
def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Number of the version.", min=1)],
    as_json: Json = False,
) -> None:
    """
    Tell how a version was made, how good it is, when it was live, and what it has cost: seconds, and money where
    [prices] are set.

    Example:

      relevanced versions show 2
    """
    from relevanced.daemon import history
    from relevanced.daemon.cost import cost_numbers
    from relevanced.daemon.status import version_sentences

    with opened(context) as parts:
        version, serving = history.version(parts.database, number), parts.promotion.serving()
        prices, lineage = parts.settings.prices, history.lineage(parts.database, number)
        if as_json:
            cost = cost_numbers(version.manifest.get("cost", {}), prices)
            say_json({**asdict(version), "cost": cost, "lineage": lineage, "serving": asdict(serving)})
            return
        for sentence in version_sentences(version, serving, prices, lineage):
            say(sentence)


@versions_app.command()
def at(
    context: typer.Context,
    time: Annotated[str, typer.Argument(metavar="TIME", help="ISO 8601; UTC where it names no zone.")],
    as_json: Json = False,
) -> None:
    """
    Say which version was live at a time, and who had made it so.

    Examples:

      relevanced versions at 2026-01-31

      relevanced versions at 2026-01-31T09:00+01:00
    """
    from relevanced.daemon import history
    from relevanced.daemon.status import change_sentence

    moment = _moment(time)
    with opened(context) as parts:
        change = history.change_before(parts.database, moment)
        if as_json:
            say_json({"moment": moment, "live_version": change["live_version_id"], "change": change})
            return
        say(f"Version {change['live_version_id']} was live at {moment:%Y-%m-%d %H:%M:%S %Z}.")
        say(change_sentence(change))


@versions_app.command()
def drop(
    context: typer.Context,
    number: Annotated[
        int | None, typer.Argument(help="Number of the version; left out: what [retention] no longer keeps.", min=1)
    ] = None,
    model: Annotated[bool, typer.Option("--model", help="Delete the files of its model too.")] = False,
    confirm: Annotated[
        str | None, typer.Option(metavar="vN", help="Its name, typed: for one that a rollback may return to.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Drop the index of a version; the model stays, and `prepare` builds the index again, unless --model is given.

    The live version, one on trial, one that waits for approval, and what a cycle works on cannot be dropped.

    Examples:

      relevanced versions drop                    as the daemon's upkeep does every night

      relevanced versions drop 3

      relevanced versions drop 4 --confirm v4     what a rollback would return to
    """
    from relevanced.daemon import retention

    with opened(context) as parts:
        policy = parts.settings.retention
        if number is None:
            if model or confirm is not None:
                raise BadInput(
                    "--model and --confirm are about one version; name it, as in `relevanced versions drop 3`."
                )
            outcome = retention.retain(parts.database, parts.models, policy)
        else:
            outcome = retention.drop(parts.database, parts.models, policy, number, model=model, confirmed=confirm)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@versions_app.command("export")
def export(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Number of the version.", min=1)],
    to: Annotated[str, typer.Option(metavar="PLACE", help="A new directory, hub:ORG/NAME or mlflow:URI.")],
    licence: Licence = None,
    public: Annotated[bool, typer.Option("--public", help="Let a new model of the Hub be seen by all.")] = False,
    name: Annotated[
        str, typer.Option(help="The registered model in MLflow; letters, digits, dots, dashes and underscores.")
    ] = "relevanced",
    as_json: Json = False,
) -> None:
    """
    Write the files of a version where other tools read them: safetensors, tokenizer, model card, sha256 of each file.

    To the Hub it goes as a private model, with HF_TOKEN. In MLflow the alias champion is live, challenger on trial or
    the newest candidate, and previous what rollback returns to; the same command again brings the aliases up to date.

    Examples:

      relevanced versions export 2 --to ./model

      relevanced versions export 2 --to hub:acme/search-en --license mit

      relevanced versions export 2 --to mlflow:http://mlflow.internal:5000
    """
    from relevanced.daemon import history

    with opened(context) as parts:
        outcome = _export(parts, history.version(parts.database, number), to, licence, public, name)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


@versions_app.command("import")
def import_(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="With a model for sentence-transformers or transformers.")],
    licence: Licence = None,
    pooling: Annotated[
        PoolingMode | None, typer.Option(help="Of a model without modules.json, which does not say how it pools.")
    ] = None,
    query_prompt: Annotated[
        str | None, typer.Option(help="Put before each query; else what the model says itself.")
    ] = None,
    document_prompt: Annotated[str | None, typer.Option(help="Put before each document; likewise.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of a text that are read; likewise.", min=8)] = None,
    as_json: Json = False,
) -> None:
    """
    Make a version of a model that was made elsewhere: a candidate, for prepare, verify, and trial or promote.

    Only safetensors are read, and no code of the model's own is run.

    Examples:

      relevanced versions import ./model

      relevanced versions import ./bert --pooling cls --query-prompt "query: "

      relevanced compare 1 3                              after that
    """
    from relevanced.daemon.model_store import ModelPolicy
    from relevanced.daemon.version_files import import_version

    policy = ModelPolicy(
        base=str(directory),
        pooling=pooling,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        max_tokens=max_tokens,
    )
    with opened(context) as parts:
        outcome = import_version(parts.stages, policy, licence)
        say_outcome(as_json, outcome.sentence, outcome.numbers)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text} is no time; write one as in 2026-01-31 or 2026-01-31T09:00+01:00.") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _export(parts: Parts, version: Version, to: str, licence: str | None, public: bool, name: str) -> Outcome:
    from relevanced.daemon.version_files import export_to_directory, export_to_hub

    kind, _, place = to.partition(":")
    if public and kind != "hub":
        raise BadInput(f"--public says who sees a model of the Hub, and {to} is none; leave it out.")
    if kind == "hub":
        if place.count("/") != 1:
            raise BadInput(f"{to} names no model of the Hugging Face Hub; write hub:ORG/NAME.")
        return export_to_hub(parts.stages, version, place, licence, private=not public)
    if kind == "mlflow":
        from relevanced.daemon.mlflow_registry import export_to_mlflow

        if not place:
            raise BadInput(f"{to} names no MLflow; write mlflow:URI, as in mlflow:http://mlflow.internal:5000.")
        if not name.replace(".", "").replace("-", "").isidentifier():
            raise BadInput(f"--name: {name} cannot be used; take letters, digits, dots, dashes and underscores.")
        return export_to_mlflow(parts.stages, version, place, name, licence)
    return export_to_directory(parts.stages, version, Path(to).expanduser(), licence)
