"""
From texts to rows in Postgres by the project's own path, beside SentenceTransformer.encode, which writes nothing.

    python -m tests.bench.encode [--documents 1500]

Both get the same texts, MiniLM and an otherwise idle machine, one after the other, three times in turn; the medians
count. encode runs in float32, and in bf16 with the batch size that suits it best. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.encoder import TransformerEncoder
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.ports import silent
from relevanced.daemon.records import Document
from tests.bench.train import DEVICE, minilm, texts

ROUNDS = 3
BATCHES = (32, 128)


def main() -> None:
    """Measure all in turn, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=20_000 if DEVICE == "cuda" else 1500)
    asked = parser.parse_args()
    documents = [str(row["positive"]) for row in texts(minilm(), asked.documents)]
    encoder = TransformerEncoder.load(minilm(), "bench")
    plain = SentenceTransformer(str(minilm()), device=DEVICE)
    lighter = SentenceTransformer(str(minilm()), device=DEVICE, model_kwargs={"dtype": torch.bfloat16})
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(None, Path(folder))
        load_documents(database, [Document(f"d{n:06}", "", text) for n, text in enumerate(documents)], silent)
        index = Index(database, IndexPolicy())

        def ours() -> None:
            with database.connection() as connection:
                version_id = history.register_version(connection, None)
            history.complete_version(database, version_id, Path("/m"), "bench", encoder.dimension, {})
            assert index.embed(version_id, encoder, None, silent) == len(documents)

        ways: dict[str, Callable[[], object]] = {"ours": ours, "fp32": lambda: plain.encode(documents)}
        ways |= {f"bf16, {size}": lambda size=size: lighter.encode(documents, batch_size=size) for size in BATCHES}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - began)
                print(f"{name}: {len(documents) / seconds[name][-1]:.1f} documents/s", flush=True)  # noqa: T201
    found = {name: len(documents) / median(times) for name, times in seconds.items()}
    expected = plain.encode(documents, normalize_embeddings=True)
    cosines = (expected * encoder.encode_documents(documents)).sum(axis=1)
    line = {
        "bench": "encode",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "ours_per_s": round(found["ours"], 1),
        "ratio_to_fp32": round(found["ours"] / found["fp32"], 2),
        "ratio_to_best_encode": round(found["ours"] / max(found[name] for name in found if name != "ours"), 2),
        "min_cosine": round(float(np.min(cosines)), 6),
    }
    print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
