"""
Does the gate stop a candidate that has learned clicks by heart, and let a good one of the same clicks pass?

    python -m tests.bench.overfitted DATA_DIR [--documents 1500] [--weeks 4] [--epochs 3]

Simulated people search and click; no trial, no promotion. From the same log two candidates are trained: one as the
daemon does, and one on clicks at face value, what was clicked is relevant and what was shown and not clicked is not,
for more epochs. Both are measured on the clicks at face value, by which the second is much better, and judged by the
gate, on judgments free of position bias; and on the test queries, which nobody typed. Then experts, who know the train
qrels, grant the wishes that the gate has noted of the first, and it judges that again. The last line is one JSON
object.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from relevanced import sql
from relevanced.daemon.config import load_settings
from relevanced.daemon.console import progress_bars
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.cycle import begin_cycle, cycle_of
from relevanced.daemon.documents import load_documents
from relevanced.daemon.exact_runs import exact_run
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.golden import MOST_WISHES, GoldenJudgment, load_golden, wishes
from relevanced.daemon.metrics import mean_interval, ndcg_at_10, qrels_from
from relevanced.daemon.mining import mine
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import query_key
from relevanced.daemon.records import Cycle, SearchRequest
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from relevanced.daemon.rehearsal.rehearse import START
from relevanced.daemon.rehearsal.searchers import Searchers, SearchersPolicy
from relevanced.daemon.stages import Stages
from relevanced.daemon.steps import steps_of
from relevanced.daemon.wiring import Parts

SETTINGS = "[model]\nmax_tokens = 64\n[triplets]\nnegatives = 1\n"
LIVE = 1


def main() -> None:
    """Let people click, train twice, and print what clicks, gate and truth say of either."""
    arguments = argparse.ArgumentParser(description="What the gate says of a candidate that learned clicks by heart.")
    arguments.add_argument("data", type=Path, help="a data set in BEIR layout")
    arguments.add_argument("--documents", type=int, default=1500)
    arguments.add_argument("--weeks", type=int, default=4)
    arguments.add_argument("--epochs", type=int, default=3, help="of the training on clicks at face value")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    dataset = read_dataset(given.data, max_documents=given.documents, seed=given.seed)
    home = Path(tempfile.mkdtemp(prefix="overfitted-"))
    (home / "relevanced.toml").write_text(SETTINGS)
    parts = Parts(home, load_settings(home / "relevanced.toml"), seed=given.seed)
    try:
        with progress_bars() as progress:
            settle(parts, dataset, given.weeks, given.seed, progress)
            debiased = parts.stages
            naive = replace(
                debiased,
                click_model=replace(debiased.click_model, method="naive"),
                training=replace(debiased.training, epochs=given.epochs),
            )
            good = learned(debiased, None, progress)
            told = judged_again(debiased, good, dataset, progress)
            heart = learned(naive, debiased.files(good) / "holdout.parquet", progress)
            raw = pq.read_table(naive.files(heart) / "judgments.parquet")
            found = {
                name: figures(debiased, dataset, raw, cycle, progress)
                for name, cycle in (("as the daemon does", good), ("clicks by heart", heart))
            }
    finally:
        parts.close()
        shutil.rmtree(home)
    print(f"{'candidate':20}{'clicks at face value':>24}{'test queries':>20}")  # noqa: T201
    for name, one in found.items():
        of_clicks, of_test = (f"{one[key][0]:.3f} -> {one[key][1]:.3f}" for key in ("clicks", "test"))
        print(f"{name:20}{of_clicks:>24}{of_test:>20}   {one['sentence']}")  # noqa: T201
    print(f"as the daemon does, once experts have judged what it was asked: {told}")  # noqa: T201
    print(json.dumps({"bench": "overfitted", "candidates": found, "told": told}))  # noqa: T201


def settle(parts: Parts, dataset: Dataset, weeks: int, seed: int, progress: Progress) -> None:
    """Load the documents, make the first version, and let people search and click."""
    load_documents(parts.database, dataset.documents, progress)
    make_first_version(parts.stages, parts.settings.model, progress)
    searchers = Searchers(dataset, SearchersPolicy(), seed=seed, start=START)
    for week in range(weeks):
        sessions = list(searchers.sessions(week))
        requests = [
            SearchRequest(one.user_query, client_id=one.client_id, session_id=one.session_id, timestamp=one.timestamp)
            for one in sessions
        ]
        for start in range(0, len(sessions), 1000):
            some = slice(start, start + 1000)
            answers = parts.search.search(requests[some])
            clicks = [searchers.click(*pair) for pair in zip(sessions[some], answers, strict=True)]
            parts.sink.write([click for one in clicks for click in one])
            progress(f"Searching, week {week + 1}", min(start + 1000, len(sessions)), len(sessions))
    spool = parts.source_openers()["spool"]()
    consume_until_empty(spool, parts.log_store)
    spool.close()


def learned(stages: Stages, holdout: Path | None, progress: Progress) -> Cycle:
    """
    Mine, train and judge, and end the cycle there.

    Args:
        holdout: what the gate is to ask instead of what was mined.
    """
    cycle = begin_cycle(stages.database, "overfitted")
    mine(stages, cycle, progress)
    if holdout:
        shutil.copy(holdout, stages.files(cycle) / "holdout.parquet")
    for step in ("train", "gate"):
        cycle = cycle_of(stages.database, cycle.cycle_id)
        outcome = steps_of(stages)[step](cycle, progress)
    end(stages, cycle, outcome.sentence)
    return cycle_of(stages.database, cycle.cycle_id)


def judged_again(stages: Stages, judged: Cycle, dataset: Dataset, progress: Progress) -> str:
    """Let those who know the train qrels grant what the gate wished to know, and judge the same candidate again."""
    known = {query_key(text): dataset.train_qrels.get(query_id, {}) for query_id, text in dataset.train_queries.items()}
    granted = [
        GoldenJudgment(
            row["user_query"], row["document_id"], float(known[key].get(row["document_id"], 0) > 0), wished=True
        )
        for row in wishes(stages.database, MOST_WISHES)
        if (key := query_key(row["user_query"])) in known
    ]
    load_golden(stages.database, granted, "expert", progress)
    cycle = begin_cycle(stages.database, "overfitted")
    shutil.copy(stages.files(judged) / "holdout.parquet", stages.files(cycle) / "holdout.parquet")
    row = {"cycle_id": cycle.cycle_id, "version_id": judged.candidate_version_id}
    with stages.database.connection() as connection:
        connection.execute(sql.postgres["replace_candidate"], row)
    outcome = steps_of(stages)["gate"](cycle_of(stages.database, cycle.cycle_id), progress)
    end(stages, cycle, outcome.sentence)
    return f"{len(granted)} judgments. {outcome.sentence}"


def end(stages: Stages, cycle: Cycle, sentence: str) -> None:
    """End a cycle where it is."""
    with stages.database.connection() as connection:
        connection.execute(
            "UPDATE relevanced.cycle SET step = 'ended', ended_at = now(), sentence = %s WHERE cycle_id = %s",
            [sentence, cycle.cycle_id],
        )


def figures(stages: Stages, dataset: Dataset, raw: pa.Table, cycle: Cycle, progress: Progress) -> dict[str, Any]:
    """NDCG@10 of live and the candidate by clicks at face value and on the test queries, and the gate's sentence."""
    assert cycle.candidate_version_id is not None
    qrels = qrels_from(raw)
    both: dict[str, list[float]] = {"clicks": [], "test": []}
    for version_id in (LIVE, cycle.candidate_version_id):
        clicked = exact_run(stages, version_id, {query: query for query in qrels}, None, progress)
        typed = exact_run(stages, version_id, dataset.test_queries, None, progress)
        both["clicks"].append(mean_interval(list(ndcg_at_10(qrels, clicked).values()), 0.95).mean)
        both["test"].append(mean_interval(list(ndcg_at_10(dataset.test_qrels, typed).values()), 0.95).mean)
    return {**both, "sentence": cycle.sentence}


if __name__ == "__main__":
    main()
