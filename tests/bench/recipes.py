"""
Recipes side by side: NDCG@10 of test queries after training on all train qrels, beside sentence-transformers' Trainer.

    python -m tests.bench.recipes DIRECTORY... [--seeds 3] [--recipes "default;trainer"]

A DIRECTORY is a data set in BEIR layout. Hard negatives are mined once for each by the base model, as a cycle does.
The recipe `trainer` is SentenceTransformerTrainer with the settings of `default`: same triplets, batch size, learning
rate, warm-up, epochs, temperature, and bf16 where the device computes in it. It wants as many negatives in each row;
`complete rows` is our loop over the same rows. The last line is one JSON object.
"""

import argparse
import io
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from relevanced.daemon.documents import document_text
from relevanced.daemon.encoder import TransformerEncoder, load_model
from relevanced.daemon.forward import computes_bf16
from relevanced.daemon.judgments import beyond_doubt
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.queries import query_key
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from relevanced.daemon.trainer import Training
from relevanced.daemon.training import TrainingJob
from relevanced.daemon.triplets import TripletPolicy, mine_triplets
from tests.bench.train import minilm

DEPTH: Final = 100  # of the run that negatives are mined from
SHORTER: Final = (256, 128, 64)
DEFAULT: Final = TrainingPolicy()
RECIPES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "complete rows": {"complete": True},
    "epochs 2": {"epochs": 2},
    "epochs 3": {"epochs": 3},
    "rate 1e-4": {"learning_rate": 1e-4},
    "rate 3e-4": {"learning_rate": 3e-4},
    "rate 5e-4": {"learning_rate": 5e-4},
    "epochs 2, rate 1e-4": {"epochs": 2, "learning_rate": 1e-4},
    "epochs 2, rate 3e-4": {"epochs": 2, "learning_rate": 3e-4},
    "temperature .02": {"temperature": 0.02},
    "temperature .03": {"temperature": 0.03},
    "temperature .1": {"temperature": 0.1},
    "batch 32": {"batch_size": 32},
    "batch 128": {"batch_size": 128, "learning_rate": 3e-4},
    "batch 512": {"batch_size": 512, "learning_rate": 5e-4, "epochs": 2},
    "negatives 0": {"negatives": 0},
    "negatives 1": {"negatives": 1},
    "negatives 4": {"negatives": 4},
    "masked above 0": {"mask_above": 0.0},
    "masked above .1": {"mask_above": 0.1},
    "margin": {"loss": "margin"},
    "cosine": {"schedule": "cosine"},
    "constant, averaged": {"schedule": "constant", "average_share": 0.5},
    "averaged": {"average_share": 0.3},
    "keep base .2": {"keep_base": 0.2},
    "keep base .5": {"keep_base": 0.5},
    "no decay": {"weight_decay": 0.0},
    "lora 16": {"lora_rank": 16, "learning_rate": 2e-3},
    "lora 64": {"lora_rank": 64, "learning_rate": 1e-3},
    "validated": {"validation_share": 0.1, "epochs": 3},
    "matryoshka": {"matryoshka": SHORTER},
    "matryoshka, epochs 2": {"matryoshka": SHORTER, "epochs": 2},
}


class Town:
    """A data set with what the base model finds in it."""

    def __init__(self, directory: Path, base: Path, max_documents: int | None) -> None:
        self.dataset: Dataset = read_dataset(directory, max_documents=max_documents)
        self.texts = [document_text(one.title, one.text) for one in self.dataset.documents]
        self.names = [one.document_id for one in self.dataset.documents]
        self.qrels = self.dataset.test_qrels
        encoder = TransformerEncoder.load(base, "")
        vectors = encoder.encode_documents(self.texts)
        self.anchors = {
            query_key(self.dataset.train_queries[name]): self.dataset.train_queries[name]
            for name in self.dataset.train_qrels
        }
        keys = list(self.anchors)
        self.pairs = {
            (query_key(self.dataset.train_queries[query]), name)
            for query, row in self.dataset.train_qrels.items()
            for name, score in row.items()
            if score > 0
        }
        scores = encoder.encode_queries([self.anchors[key] for key in keys]) @ vectors.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        self.run = pa.table(
            {
                "query_key": [key for key in keys for _ in range(best.shape[1])],
                "document_id": [self.names[place] for row in best for place in row],
                "score": np.take_along_axis(scores, best, axis=1).ravel(),
                "rank": np.tile(np.arange(1, best.shape[1] + 1), len(keys)),
            }
        )

    def triplets(self, negatives: int, *, complete: bool = False) -> pa.Table:
        """Mine; `complete` leaves out triplets with fewer negatives, which the library's Trainer cannot take."""
        mined = mine_triplets(beyond_doubt(self.pairs), self.run, self.anchors, TripletPolicy(negatives=negatives))
        text_of = dict(zip(self.names, self.texts, strict=True))
        if complete:
            mined = mined.filter(pc.equal(pc.list_value_length(mined["negative_ids"]), negatives))
        return mined.append_column(
            "positive", pa.array([text_of[name] for name in mined["positive_id"].to_pylist()])
        ).append_column(
            "negatives",
            pa.array(
                [[text_of[name] for name in names] for names in mined["negative_ids"].to_pylist()],
                pa.list_(pa.string()),
            ),
        )

    def measure(self, encoder: TransformerEncoder, dimension: int | None = None) -> float:
        """Mean NDCG@10 of the test queries over all documents, by the first dimensions of the vectors."""
        queries = list(self.qrels)
        texts = [self.dataset.test_queries[name] for name in queries]
        vectors = [encoder.encode_queries(texts)[:, :dimension], encoder.encode_documents(self.texts)[:, :dimension]]
        mine, theirs = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
        scores = mine @ theirs.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        run = {
            query: {self.names[place]: float(row[place]) for place in places}
            for query, row, places in zip(queries, scores, best, strict=True)
        }
        return float(np.mean(list(ndcg_at_10(self.qrels, run).values())))


def trained(base: Path, triplets: Path, directory: Path, policy: TrainingPolicy) -> tuple[Path, float]:
    """Train with the daemon's loop; give the model's directory and the seconds."""
    began = time.perf_counter()
    job = TrainingJob(base=base, triplets=triplets, directory=directory, output=directory / "out", policy=policy)
    Training(job, io.StringIO()).run()
    return directory / "model", time.perf_counter() - began


def trained_by_library(base: Path, triplets: Path, directory: Path, policy: TrainingPolicy) -> tuple[Path, float]:
    """Train with the library's loop."""
    from datasets import Dataset as Rows
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    began = time.perf_counter()
    model = load_model(base)
    rows = pq.read_table(triplets).to_pylist()
    most = len(rows[0]["negatives"])
    columns = {"anchor": [row["anchor"] for row in rows], "positive": [row["positive"] for row in rows]}
    columns |= {f"negative_{place}": [row["negatives"][place] for row in rows] for place in range(most)}
    on_gpu = model.device.type == "cuda"
    arguments = SentenceTransformerTrainingArguments(
        str(directory / "trainer"),
        per_device_train_batch_size=policy.batch_size,
        num_train_epochs=policy.epochs,
        learning_rate=policy.learning_rate,
        warmup_steps=policy.warmup_share,
        weight_decay=policy.weight_decay,
        batch_sampler="no_duplicates",
        bf16=computes_bf16(model.device),
        seed=policy.seed + 1,
        use_cpu=not on_gpu,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / policy.temperature)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=Rows.from_dict(columns), loss=loss).train()
    model.save(str(directory / "model"), create_model_card=False)
    return directory / "model", time.perf_counter() - began


def main() -> None:
    """Train each recipe with each seed on each data set, and print what it comes to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipes", default=",".join(["trainer", "default"]))
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--max-documents", type=int, default=None)
    asked = parser.parse_args()
    base = asked.model or minilm()
    wanted = [*RECIPES, "trainer"] if asked.recipes == "all" else asked.recipes.split(";")
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for directory in asked.directories:
        town = Town(directory, base, asked.max_documents)
        name = directory.name
        found["zero-shot"][name] = round(town.measure(TransformerEncoder.load(base, "")), 4)
        zero_shot = found["zero-shot"][name]
        print(f"{name}: {len(town.names)} documents, {len(town.pairs)} pairs, zero-shot {zero_shot}", flush=True)  # noqa: T201
        for recipe in wanted:
            figures, seconds, shorter = [], [], defaultdict(list)
            settings = dict(RECIPES.get(recipe.removeprefix("trainer "), {}))
            negatives, complete = settings.pop("negatives", 2), settings.pop("complete", recipe.startswith("trainer"))
            for seed in range(asked.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "triplets.parquet"
                    pq.write_table(town.triplets(negatives, complete=complete), file)
                    policy = replace(DEFAULT, seed=seed, **settings)
                    train = trained_by_library if recipe.startswith("trainer") else trained
                    model, took = train(base, file, Path(folder), policy)
                    encoder = TransformerEncoder.load(model, "")
                    figures.append(town.measure(encoder))
                    seconds.append(took)
                    if recipe in ("default", "epochs 2") or "matryoshka" in recipe:
                        for dimension in SHORTER:
                            shorter[dimension].append(town.measure(encoder, dimension))
            cut = {f"at {dimension}": round(float(np.mean(values)), 4) for dimension, values in shorter.items()}
            found[recipe][name] = {
                "ndcg@10": [round(one, 4) for one in figures],
                "mean": round(float(np.mean(figures)), 4),
                "seconds": round(min(seconds), 1),
                **cut,
            }
            print(f"  {recipe:24} {found[recipe][name]}", flush=True)  # noqa: T201
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"bench": "recipes", "device": device, "seeds": asked.seeds, "found": found}))  # noqa: T201


if __name__ == "__main__":
    main()
