"""
What is forgotten, round by round: each version from the base model on all history, or from live on what is new.

    python -m tests.bench.forgetting DOMAIN GENERAL [--rounds 4] [--triplets 400] [--arms "base;live"]

Both are data sets in BEIR layout. Train queries of DOMAIN come round by round, so many triplets each; negatives are
mined once by the base model. Every version is measured on the test queries of DOMAIN, on those of GENERAL, which no
version is taught, and on the anchors among the first: those that the base model and all versions before answer well.
The last line is one JSON object: NDCG@10 of each round, and for the last one the differences with their intervals.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from relevanced.daemon.anchors import anchors_of, differences, mixed
from relevanced.daemon.documents import document_text
from relevanced.daemon.encoder import TransformerEncoder
from relevanced.daemon.exact_runs import rank_exactly
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.ports import Vectors
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from tests.bench.recipes import Town, trained
from tests.bench.train import minilm

NEGATIVES: Final = 2
ARMS: Final[dict[str, dict[str, Any]]] = {
    "base": {"start": "base"},
    "base, replay": {"start": "base", "replay_share": 0.2},
    "live": {"start": "live"},
    "live, replay": {"start": "live", "replay_share": 0.2},
    "live, replay .5": {"start": "live", "replay_share": 0.5},
    "live, all history": {"start": "live"},
    "base, a fifth kept": {"start": "base", "keep_base": 0.2},
    "base, half kept": {"start": "base", "keep_base": 0.5},
}
ALL_HISTORY: Final = "live, all history"  # what the daemon does not do: from live on old and new triplets alike
LAST: Final = ("base, a fifth kept", "base, half kept")  # arms of which only the last version is made
LEAST: Final = GatePolicy().anchor_ndcg


@dataclass(frozen=True)
class Measured:
    """One model: NDCG@10 by test query of either data set, and by training query over the documents of the domain."""

    directory: Path
    domain: Mapping[str, float]
    general: Mapping[str, float]
    taught: Mapping[str, float]


class Bench:
    """The domain with its triplets in rounds, and the general set."""

    def __init__(self, domain: Path, general: Path, most: int, rounds: int, triplets: int, folder: Path) -> None:
        self.base = minilm()
        self.town = Town(domain, self.base, most)
        self.general = read_dataset(general, max_documents=most // 2)
        self.rows = self.town.triplets(NEGATIVES)
        self.keys = self.rows["query_key"].to_pylist()
        order = np.random.default_rng(0).permutation(sorted(set(self.keys)))
        turn = {key: number for number, key in enumerate(order)}
        places = sorted(range(len(self.keys)), key=lambda place: turn[self.keys[place]])[: rounds * triplets]
        self.rounds = [places[start : start + triplets] for start in range(0, len(places), triplets)]
        self.qrels = {key: dict[str, float]() for key in self.keys}
        for key, name in zip(self.keys, self.rows["positive_id"].to_pylist(), strict=True):
            self.qrels[key][name] = 1.0
        self.folder, self.seconds = folder, 0.0
        self._made: dict[Any, Measured] = {}

    def measure(self, directory: Path) -> Measured:
        encoder = TransformerEncoder.load(directory, "")
        vectors = encoder.encode_documents(self.town.texts)
        asked = {self.keys[place] for part in self.rounds for place in part}
        texts = {key: self.town.anchors[key] for key in asked}
        taught = rank_exactly(encoder, texts, self.town.names, vectors)
        return Measured(
            directory,
            of_test(encoder, self.town.dataset, self.town.names, vectors),
            of_test(encoder, self.general, *encoded(encoder, self.general)),
            ndcg_at_10({key: self.qrels[key] for key in asked}, taught),
        )

    def next_version(self, number: int, before: Sequence[Measured], policy: TrainingPolicy, arm: str) -> Measured:
        """Train what follows on those before, of which the first is the base model."""
        new = [place for part in self.rounds[:number] for place in part]
        old: list[int] = new
        start = before[0].directory
        if policy.start == "live":
            start = before[-1].directory
        if policy.start == "live" and arm != ALL_HISTORY:
            old, new = new[: -len(self.rounds[number - 1])], self.rounds[number - 1]
        anchors = anchors_of([one.taught for one in before], LEAST)
        lesson = mixed(new, [place for place in old if self.keys[place] in anchors], policy.replay_share, policy.seed)
        key = (start, tuple(lesson), policy.keep_base)
        if key not in self._made:
            directory = self.folder / str(len(self._made))
            directory.mkdir()
            pq.write_table(self.rows.take(lesson), directory / "triplets.parquet")
            began = time.perf_counter()
            model, _ = trained(start, directory / "triplets.parquet", directory, policy)
            self.seconds += time.perf_counter() - began
            self._made[key] = self.measure(model)
            print(f"    {len(lesson)} triplets, {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
        return self._made[key]


def encoded(encoder: TransformerEncoder, dataset: Dataset) -> tuple[list[str], Vectors]:
    names = [one.document_id for one in dataset.documents]
    return names, encoder.encode_documents([document_text(one.title, one.text) for one in dataset.documents])


def of_test(encoder: TransformerEncoder, dataset: Dataset, names: Sequence[str], vectors: Vectors) -> dict[str, float]:
    return ndcg_at_10(dataset.test_qrels, rank_exactly(encoder, dataset.test_queries, names, vectors))


def mean(ndcg: Mapping[str, float]) -> float:
    return round(float(np.mean(list(ndcg.values()))), 4)


def against(candidate: Mapping[str, float], other: Mapping[str, float], queries: Collection[str]) -> list[float]:
    mine, theirs = ({query: one[query] for query in queries} for one in (candidate, other))
    (found,) = differences(mine, {"": theirs}, dict.fromkeys(queries, 1.0)).values()
    return [round(one, 4) for one in found]


def main() -> None:
    """Let each arm go through the rounds, and print what it comes to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("domain", type=Path)
    parser.add_argument("general", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--triplets", type=int, default=400, help="of each round")
    parser.add_argument(
        "--max-documents", type=int, default=3000, help="of the domain; half as many of the general set"
    )
    parser.add_argument("--arms", default=";".join(ARMS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.domain, asked.general, asked.max_documents, asked.rounds, asked.triplets, Path(folder))
        base = bench.measure(bench.base)
        print(  # noqa: T201
            f"{asked.domain.name}: {len(bench.town.names)} documents, {len(base.domain)} test queries, zero-shot"
            f" {mean(base.domain)}; general, {asked.general.name}: {len(bench.general.documents)} documents,"
            f" {len(base.general)} test queries, zero-shot {mean(base.general)}",
            flush=True,
        )
        found: dict[str, Any] = {"zero-shot": {"domain": mean(base.domain), "general": mean(base.general)}}
        last: dict[str, Measured] = {}
        for arm in asked.arms.split(";"):
            versions, lost, bench.seconds = [base], [], 0.0
            for number in range(len(bench.rounds) if arm in LAST else 1, len(bench.rounds) + 1):
                version = bench.next_version(number, versions, replace(TrainingPolicy(), **ARMS[arm]), arm)
                anchors = anchors_of([one.domain for one in versions], LEAST)
                lost.append([len(anchors), *against(version.domain, versions[-1].domain, anchors)])
                versions.append(version)
            last[arm] = versions[-1]
            found[arm] = {
                "domain": [mean(one.domain) for one in versions[1:]],
                "general": [mean(one.general) for one in versions[1:]],
                "general against base": against(versions[-1].general, base.general, set(base.general)),
                "anchors, difference from the version before": lost,
                "seconds": round(bench.seconds),
            }
            if "base" in last:
                pairs = (
                    ("domain", versions[-1].domain, last["base"].domain),
                    ("general", versions[-1].general, last["base"].general),
                )
                for name, mine, others in pairs:
                    found[arm][f"{name} against arm base"] = against(mine, others, set(others))
            print(f"  {arm:20} {found[arm]}", flush=True)  # noqa: T201
    print(json.dumps({"bench": "forgetting", "domain": asked.domain.name, "rounds": asked.rounds, "found": found}))  # noqa: T201


if __name__ == "__main__":
    main()
