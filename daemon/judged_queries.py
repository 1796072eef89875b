"""
The queries that two models are compared on, from where somebody has judged them.

In:  cycles/<id>/holdout.parquet, or a folder of expert labels in BEIR layout. Out: JudgedQueries; read by contrast.
Another source is one more function here.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from relevanced.daemon.asked import DECIDING, held_out_by_of
from relevanced.daemon.beir import read_qrels, read_queries
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.errors import BadInput
from relevanced.daemon.metrics import judged_documents, qrels_from, query_weights

_QRELS: Final = "qrels/test.tsv"


def held_out_queries(cycles: Path, cycle_id: int | None, *, k: int, max_weight: float) -> JudgedQueries:
    """
    Take the queries that a cycle holds out by their hash, which no version was trained on, judged by clicks.

    Args:
        cycles: the directory of the cycles' files.
        cycle_id: None: the newest that holds any out.
        k: actors who must have typed a query before its words are shown.
        max_weight: see metrics.query_weights.
    Raises: BadInput where no cycle, or not this one, holds out a query with a relevant document.
    """
    cycle_id, file = newest_holdout(cycles, cycle_id)
    held_out = pq.read_table(file)
    by = held_out_by_of(held_out)
    qrels = {query: grades for query, grades in qrels_from(held_out).items() if by[query] in DECIDING}
    if not qrels:
        raise BadInput(f"No held-out query of cycle {cycle_id} has a relevant document yet; more clicks will tell.")
    rows = held_out.select([name for name in ("query_key", "user_query", "actors") if name in held_out.column_names])
    known = {row["query_key"]: row for row in rows.to_pylist()}
    return JudgedQueries(
        source=f"held-out queries of cycle {cycle_id}",
        texts={query: known[query]["user_query"] for query in qrels},
        qrels=qrels,
        judged=judged_documents(held_out),
        weights=query_weights(held_out, max_weight),
        shown={query for query in qrels if known[query].get("actors", 0) >= k},
        documents=set(held_out["document_id"].to_pylist()),
    )


def labelled_queries(directory: Path, documents: Collection[str]) -> JudgedQueries:
    """
    Take the queries of a data set in BEIR layout, judged by its qrels/test.tsv; the operator may see their words.

    Args:
        directory: with queries.jsonl and qrels/test.tsv; its corpus is not read.
        documents: all that there are; a label of another cannot be found and is left out, which a remark says.
    Raises: BadInput where a file cannot be read, or no relevant document is among `documents`.
    """
    texts = read_queries(directory)
    read = read_qrels(directory, _QRELS, texts)
    there = {
        query: {name: score for name, score in row.items() if name in documents and score >= 0}
        for query, row in read.items()
    }
    qrels = {
        query: {name: float(score) for name, score in row.items() if score > 0}
        for query, row in there.items()
        if any(score > 0 for score in row.values())
    }
    if not qrels:
        raise BadInput(
            f"{directory / _QRELS} names no relevant document that is loaded; "
            "`relevanced documents load FILE` loads the corpus that it belongs to."
        )
    missing = sum(name not in documents for row in read.values() for name in row)
    remark = f"{missing:,} of the {sum(map(len, read.values())):,} labels name documents that are not loaded"
    if len(read) > len(qrels):
        remark += f"; queries that have no other ({len(read) - len(qrels):,}) are not asked"
    return JudgedQueries(
        source=f"labelled queries of {directory.resolve().name}",
        texts={query: texts[query] for query in qrels},
        qrels=qrels,
        judged={query: set(there[query]) for query in qrels},
        weights=dict.fromkeys(qrels, 1.0),
        shown=set(qrels),
        documents={name for query in qrels for name in there[query]},
        remarks=[f"{remark}."] if missing else [],
    )


def newest_holdout(cycles: Path, cycle_id: int | None = None) -> tuple[int, Path]:
    """
    Find the newest cycle that holds out queries, or the one that is named, and its file.

    Raises: BadInput where there is none.
    """
    have = {int(path.parent.name): path for path in cycles.glob("*/holdout.parquet") if path.parent.name.isdecimal()}
    if not have:
        raise BadInput(
            "No cycle has held out queries yet; `relevanced cycle run` begins one, and --qrels DIR asks labelled ones."
        )
    chosen = max(have) if cycle_id is None else cycle_id
    if chosen not in have:
        raise BadInput(f"Cycle {chosen} holds out no queries; there are those of {', '.join(map(str, sorted(have)))}.")
    return chosen, have[chosen]
