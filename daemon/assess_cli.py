"""
The command `assess`: is fine-tuning worth it yet?

In:  options. Out: a table of ways to rank, a learning curve and advice; or JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevanced.daemon.console import progress_bars, say, say_json, say_table
from relevanced.daemon.errors import BadInput
from relevanced.daemon.opening import Json, opened
from relevanced.daemon.ports import Progress
from relevanced.daemon.wiring import Parts

if TYPE_CHECKING:
    import pyarrow as pa

    from relevanced.daemon.assessment import Assessment

_BAR = 30  # characters of an NDCG@10 of 1


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
    pairs: Annotated[int, typer.Option(help="How many pairs are taught at most.", min=8)] = 1000,
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
    from relevanced.daemon.documents import document_ids
    from relevanced.daemon.judged_queries import held_out_queries, labelled_queries
    from relevanced.daemon.reference import OpenAiEncoder

    with opened(context) as parts, progress_bars() as progress:
        settings = parts.settings
        documents = set(document_ids(parts.database))
        if qrels is not None:
            judged = labelled_queries(qrels, documents)
        else:
            k, most = settings.privacy.k, settings.gate.max_query_weight
            judged = held_out_queries(parts.stages.directory, None, k=k, max_weight=most)
        found = measure(
            parts.stages,
            judged,
            contexts=_contexts(contexts) if contexts else None,
            references=[(name, OpenAiEncoder(name, settings.llm)) for name in reference or ()],
            triplets=_triplets(parts, qrels, documents, progress) if curve else None,
            most_pairs=pairs,
            progress=progress,
        )
    sentences = advice(found)
    if as_json:
        say_json({"advice": sentences, **asdict(found)})
    else:
        _say(found, sentences)


def _triplets(parts: Parts, qrels: Path | None, documents: set[str], progress: Progress) -> "pa.Table | None":
    """What there is to teach: of labelled train queries, or of the newest cycle; None where there is nothing."""
    import pyarrow.parquet as pq

    from relevanced.daemon.beir import read_qrels, read_queries, relevant_documents
    from relevanced.daemon.queries import query_key
    from relevanced.daemon.teaching import triplets_of

    if qrels is None:
        files = {int(path.parent.name): path for path in parts.stages.directory.glob("*/triplets.parquet")}
        return pq.read_table(files[max(files)]) if files else None
    if not any((qrels / f"qrels/train.tsv{ending}").is_file() for ending in ("", ".gz")):
        return None
    texts = read_queries(qrels)
    pairs = {
        (query_key(texts[query]), name)
        for query, row in read_qrels(qrels, "qrels/train.tsv", texts).items()
        for name in relevant_documents(row) & documents
    }
    anchors = {query_key(text): text for text in texts.values()}
    taught = {key: anchors[key] for key, _ in pairs}
    return triplets_of(parts.stages, pairs, taught, progress) if pairs else None


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
    say(f"{found.queries:,} {found.source}; differences from the live model with their 95 % intervals.\n")
    rows = [(name, f"{way.ndcg:.3f}", "█" * round(_BAR * way.ndcg), str(way)) for name, way in found.ways.items()]
    rows += [
        (f"fine-tuned on {pairs:,} pairs", f"{way.ndcg:.3f}", "█" * round(_BAR * way.ndcg), str(way))
        for pairs, way in found.curve
    ]
    say_table(("way", "NDCG@10", "", "difference"), rows)
    for sentence in ["", *sentences, *found.remarks]:
        say(sentence)
