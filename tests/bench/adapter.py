"""
What a query-side adapter brings, and how long it takes: `python -m tests.bench.adapter DATA_DIR [--full]`.

DATA_DIR is in BEIR layout. The adapter is taught on the train qrels over the base model's vectors, and both are
measured on the test queries; --full fine-tunes the base model on the same triplets beside it, which takes minutes and
encodes every document anew. The last line is one JSON object: NDCG@10 with the gate's paired intervals, and seconds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relevanced.consumers.documents import read_corpus
from relevanced.daemon.adapted import AdaptedEncoder
from relevanced.daemon.adapter import train_adapter
from relevanced.daemon.adapting import examples_of
from relevanced.daemon.beir import Qrels, file_of, read_qrels, read_queries, relevant_documents
from relevanced.daemon.documents import document_text
from relevanced.daemon.exact_runs import Run, rank_exactly
from relevanced.daemon.gate import GatePolicy, paired_interval
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.ports import Encoder, Vectors, silent
from relevanced.daemon.text_keys import text_key
from relevanced.daemon.training import TrainingJob, TrainingPolicy, train
from relevanced.daemon.triplets import TripletPolicy, mine_triplets
from relevanced.daemon.worth import AdapterPolicy


class Stopwatch:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._since = round(now - self._since, 1), now


def main() -> None:
    """Encode, teach, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    watch = Stopwatch()
    texts = {
        one.document_id: document_text(one.title, one.text) for one in read_corpus(file_of(given.data, "corpus.jsonl"))
    }
    queries = read_queries(given.data)
    train_qrels, test_qrels = (
        read_qrels(given.data, f"qrels/{name}.tsv", queries, texts) for name in ("train", "test")
    )
    with tempfile.TemporaryDirectory() as folder:
        store = ModelStore(Path(folder) / "versions")
        base = store.adopt(ModelPolicy(), 1)
        store.write_manifest(base, {})
        encoder, names = store.open(base), list(texts)
        watch.lap("load")
        documents = encoded(encoder, list(texts.values()))
        watch.lap("encode_documents")
        triplets = mined(train_qrels, rank(encoder, train_qrels, queries, names, documents), queries, texts)
        watch.lap("mine")
        policy, keys = AdapterPolicy(), {name: text_key(text) for name, text in texts.items()}
        examples = examples_of(triplets.to_pylist(), names, documents, keys, encoder, policy.check_share)
        watch.lap("encode_queries")
        adapter = train_adapter(examples, policy)
        watch.lap("train_adapter")
        arms: dict[str, tuple[Encoder, Vectors]] = {
            "base": (encoder, documents),
            "adapter": (AdaptedEncoder(encoder, adapter.matrix, "adapted"), documents),
        }
        if given.full:
            tuned = fine_tuned(store, base, triplets, texts, Path(folder))
            watch.lap("train_full")
            arms["full"] = tuned, encoded(tuned, list(texts.values()))
            watch.lap("encode_documents_again")
        runs = {name: rank(arm, test_qrels, queries, names, vectors) for name, (arm, vectors) in arms.items()}
    sizes = {"documents": len(texts), "triplets": len(triplets), "epochs": adapter.epochs}
    print(json.dumps(report(test_qrels, runs) | sizes | {"seconds": watch.seconds}))  # noqa: T201


def encoded(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode in halves of floats, as a table holds them."""
    parts = [encoder.encode_documents(texts[start : start + 256]) for start in range(0, len(texts), 256)]
    return np.concatenate(parts).astype(np.float16).astype(np.float32)


def rank(encoder: Encoder, qrels: Qrels, queries: Mapping[str, str], names: Sequence[str], documents: Vectors) -> Run:
    """Rank all documents for the queries of the qrels."""
    return rank_exactly(encoder, {query: queries[query] for query in qrels}, names, documents)


def mined(qrels: Qrels, run: Run, queries: Mapping[str, str], texts: Mapping[str, str]) -> pa.Table:
    """Mine triplets as a cycle does, as if each pair of the qrels were judged relevant beyond doubt."""
    judged = {"grade": 1.0, "weight": 1.0, "expected_clicks": 0.0, "source": "experts"}
    judgments = [
        {"query_key": query, "document_id": name, **judged}
        for query, row in qrels.items()
        for name in relevant_documents(row)
    ]
    ranked = [
        {"query_key": query, "document_id": name, "score": score}
        for query, row in run.items()
        for name, score in row.items()
    ]
    keys = {name: text_key(text) for name, text in texts.items()}
    return mine_triplets(pa.Table.from_pylist(judgments), pa.Table.from_pylist(ranked), queries, TripletPolicy(), keys)


def fine_tuned(store: ModelStore, base: Path, triplets: pa.Table, texts: Mapping[str, str], folder: Path) -> Encoder:
    """Fine-tune the base model by the daemon's own trainer."""
    rows = [
        {**row, "positive": texts[row["positive_id"]], "negatives": [texts[name] for name in row["negative_ids"]]}
        for row in triplets.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "triplets.parquet")
    job = TrainingJob(
        base=base,
        triplets=folder / "triplets.parquet",
        directory=folder / "training",
        output=store.directory(2),
        policy=TrainingPolicy(),
    )
    train(job, silent)
    store.write_manifest(job.output, {})
    return store.open(job.output)


def report(qrels: Qrels, runs: Mapping[str, Run]) -> dict[str, Any]:
    """NDCG@10 of each arm, and the intervals of their differences."""
    ndcg = {name: ndcg_at_10(qrels, run) for name, run in runs.items()}
    weights = dict.fromkeys(qrels, 1.0)
    found: dict[str, Any] = {"queries": len(qrels)}
    found |= {f"{name}_ndcg@10": round(float(np.mean(list(values.values()))), 4) for name, values in ndcg.items()}
    for one, other in (("adapter", "base"), ("full", "base"), ("full", "adapter")):
        if one in ndcg:
            between = paired_interval(ndcg[one], ndcg[other], weights, GatePolicy().confidence)
            found[f"{one}_against_{other}"] = [round(value, 4) for value in between]
    return found


if __name__ == "__main__":
    main()
