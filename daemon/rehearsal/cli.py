"""
The commands `rehearse` and `demo`.

In:  options. Out: each step's sentence as it ends, the report as a page and, when asked for, as JSON.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

import typer

from relevanced.daemon.config import KafkaPolicy, load_settings
from relevanced.daemon.console import out, progress_bars, say, say_json
from relevanced.daemon.errors import FailStep
from relevanced.daemon.files import require_folder
from relevanced.daemon.rehearsal.broker import running_broker
from relevanced.daemon.rehearsal.click_models import Bias, Clicks
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from relevanced.daemon.rehearsal.drift import views
from relevanced.daemon.rehearsal.hpo import write_hpo
from relevanced.daemon.rehearsal.page import render
from relevanced.daemon.rehearsal.place import Place, require_own
from relevanced.daemon.rehearsal.plot import write_plot
from relevanced.daemon.rehearsal.rehearse import Rehearsal, RehearsalPolicy
from relevanced.daemon.rehearsal.report import Report, write_report
from relevanced.daemon.rehearsal.searchers import SearchersPolicy
from relevanced.daemon.svg import require_svg
from relevanced.daemon.wiring import Parts

# The demo has to fit eight minutes on two slow cores, set-up included.
DEMO_DOCUMENTS: Final = 1_200
DEMO_TRAIN_QUERIES: Final = 1_200
DEMO_TEST_QUERIES: Final = 300
DEMO_SEED: Final = 13
DEMO_SETTINGS: Final = """\
# The settings of `relevanced demo`: what a corpus of short clinical terms and a few hundred queries need.

[model]
max_tokens = 48  # a term's name and the beginning of its definition

[holdout]
share = 0.3  # of 1,200 queries; the gate needs as many as it can get of so few

[exploration]
swap_probability = 0.1  # tells position from relevance, at nearly no cost
"""

Source = Annotated[Literal["spool", "kafka"], typer.Option(help="What the searchers' records travel through.")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write the report as JSON to this file.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw the report as an SVG to this file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")]


def rehearse(
    context: typer.Context,
    data_dir: Annotated[Path, typer.Argument(help="BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,test}.tsv.")],
    cycles: Annotated[int, typer.Option(min=1, help="How many cycles.")] = 3,
    mean_sessions: Annotated[
        float, typer.Option(min=0.1, help="Sessions a train query and cycle; Zipf over them.")
    ] = 8,
    noise: Annotated[float, typer.Option(min=0, max=0.5, help="P(wrong click, or wrong skip) when examined.")] = 0.1,
    clicks: Annotated[Clicks, typer.Option(help="How people read a page; see docs/rehearsal.md.")] = "pbm",
    bias: Annotated[Bias, typer.Option(help="How attention falls with the position.")] = "lovbench",
    swaps: Annotated[float, typer.Option(min=0, max=1, help="Share of the answers with neighbours swapped.")] = 0.1,
    trial: Annotated[
        float, typer.Option(min=0, max=1, help="Share of held-out searches that a candidate in doubt is tried on.")
    ] = 1.0,
    mix: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the other searches mixed with a candidate on trial.")
    ] = 0.5,
    slots: Annotated[float, typer.Option(min=0, max=1, help="Share of the answers with slots of other rankers.")] = 0,
    spam: Annotated[float, typer.Option(min=0, max=0.9, help="Share of sessions of clients that push documents.")] = 0,
    flood: Annotated[bool, typer.Option("--flood", help="One client in 100 sends 30 % of all clicks.")] = False,
    reformulation: Annotated[
        float, typer.Option(min=0, max=1, help="P(other words for the same need), with nothing clicked.")
    ] = 0,
    drift: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of documents and queries that come after the first cycle.")
    ] = 0,
    judgments: Annotated[
        Literal["pbm", "naive"], typer.Option(help="By the click model, or with clicks at face value, to compare.")
    ] = "pbm",
    defences: Annotated[
        bool, typer.Option("--defences/--no-defences", help="Each actor heard once, and pushed documents known.")
    ] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same searchers.")] = 13,
    oracle: Annotated[bool, typer.Option(help="Also train on every train judgment, as the upper bound.")] = True,
    max_documents: Annotated[int | None, typer.Option(min=10, help="Cut the data set down.")] = None,
    source: Source = "spool",
    report: ReportFile = None,
    plot: PlotFile = None,
    as_json: Json = False,
) -> None:
    """
    Run the whole loop on a labelled data set with simulated searchers: what would your team gain?

    Needs a state directory of its own.

    Examples:

      relevanced --home ./rehearsal rehearse DATA_DIR

      relevanced --home ./spammed rehearse DATA_DIR --spam 0.1           a tenth of the sessions push documents

      relevanced --home ./naive rehearse DATA_DIR --judgments naive      what clicks at face value come to

      relevanced --home ./cascade rehearse DATA_DIR --clicks cascade     people who read on until they are satisfied
    """
    if plot is not None:
        require_svg(plot)
    for file in filter(None, (report, plot)):
        require_folder(file)
    dataset = read_dataset(data_dir, max_documents=max_documents, seed=seed)
    found = _rehearse(
        context,
        dataset,
        RehearsalPolicy(cycles=cycles, source=source, oracle=oracle, seed=seed, drift=drift),
        SearchersPolicy(
            mean_sessions=mean_sessions,
            noise=noise,
            clicks=clicks,
            bias=bias,
            spam=spam,
            flood=flood,
            reformulation=reformulation,
        ),
        {
            "exploration": {"swap_probability": swaps, "mix_share": mix, "slot_share": slots},
            "trial": {"share": trial},
            "click_model": {"method": judgments, **({} if defences else {"pushed_share": 0.0})},
            "signals": {"one_voice": defences},
        },
        report,
        as_json=as_json,
    )
    if plot is not None:
        write_plot(plot, found)


def demo(
    context: typer.Context,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Through a Kafka-protocol broker instead of the spool.")
    ] = False,
    cycles: Annotated[int, typer.Option(min=1, help="How many cycles.")] = 1,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Watch a model get better from clicks: lay words in, terms of the Human Phenotype Ontology out."""
    home, _ = context.obj
    require_own(home)
    corpus, settings = home / "hpo", home / "relevanced.toml"
    if not settings.exists():
        write_hpo(corpus)
        settings.write_text(DEMO_SETTINGS, encoding="utf-8")
    dataset = read_dataset(
        corpus,
        max_documents=DEMO_DOCUMENTS,
        max_train_queries=DEMO_TRAIN_QUERIES,
        max_test_queries=DEMO_TEST_QUERIES,
        seed=DEMO_SEED,
    )
    policy = RehearsalPolicy(cycles=cycles, source="kafka" if kafka else "spool", oracle=True, seed=DEMO_SEED)
    found = _rehearse(context, dataset, policy, SearchersPolicy(), {}, report, as_json=as_json)
    if found.live.ndcg <= found.zero_shot.ndcg:
        raise FailStep("No promoted version is better on the test queries than the base model; the table shows why.")
    if not as_json:
        command = shlex.join([os.path.relpath(sys.argv[0]), "--home", os.path.relpath(home)])
        say(f"\nSearch what was just built:  {command} search 'ringing in the ears'")
        say(f"or over HTTP:  {command} up  and then  curl 'http://127.0.0.1:8765/v1/search?q=stiff+neck'")


def _rehearse(
    context: typer.Context,
    dataset: Dataset,
    policy: RehearsalPolicy,
    searchers: SearchersPolicy,
    overrides: Mapping[str, Mapping[str, Any]],
    report: Path | None,
    *,
    as_json: bool,
) -> Report:
    home, config = context.obj
    there = views(dataset, policy.drift, policy.cycles, policy.seed)
    sizes = {"documents": len(dataset.documents), "queries": len(dataset.train_queries)}
    place = Place(home, {"data": dataset.name, **sizes, **asdict(policy), **asdict(searchers), **overrides})
    settings = load_settings(config or home / "relevanced.toml", overrides)
    with contextlib.ExitStack() as stack:
        kafka = KafkaPolicy()
        if policy.source == "kafka":
            kafka = _topics_of_its_own(settings.kafka.bootstrap_servers or stack.enter_context(running_broker()))
        # What is simulated comes near neither the database nor the topics that people use.
        settings = settings.model_copy(update={"database_url": None, "kafka": kafka})
        parts = Parts(home, settings, seed=policy.seed)
        stack.callback(parts.close)
        progress = stack.enter_context(progress_bars())
        rehearsal = Rehearsal(
            parts,
            there,
            policy,
            searchers,
            place=place,
            progress=progress,
            tell=(lambda sentence: None) if as_json else say,
        )
        found = rehearsal.run()
    if report is not None:
        write_report(report, found)
    if as_json:
        say_json(found.to_json())
    else:
        render(found, out)
    return found


def _topics_of_its_own(bootstrap_servers: str) -> KafkaPolicy:
    """Topics and a group for this run alone: one that was stopped has its records in the log store already."""
    name = f"relevanced-rehearsal-{uuid4().hex[:8]}"
    return KafkaPolicy(
        bootstrap_servers=bootstrap_servers, query_topic=f"{name}.queries", event_topic=f"{name}.events", group=name
    )
