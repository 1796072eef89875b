"""
How soon a worse version that was put live is taken back by itself.

    relevanced --home ./rehearsal rehearse DATA_DIR --cycles 2 --seed 1
    python -m tests.bench.harm ./rehearsal DATA_DIR --worse 1 [--documents 1500] [--seed 1] [--share 0.5]

In the home of a finished rehearsal, which goes on with it: the worse version takes the live one's place as if a person
had insisted, simulated people search and click on, and the trial that observes is looked at after each 200 sessions,
until it rolls back. The last line is one JSON object.
"""

import argparse
import json
from pathlib import Path

from relevanced.daemon.config import load_settings
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.records import SearchRequest
from relevanced.daemon.rehearsal.dataset import read_dataset
from relevanced.daemon.rehearsal.rehearse import START
from relevanced.daemon.rehearsal.searchers import Searchers, SearchersPolicy
from relevanced.daemon.tryout import check_trial, observe, open_trial
from relevanced.daemon.wiring import Parts

AT_ONCE = 200  # sessions between two looks
WEEKS = range(50, 70)  # of new sessions, long after the rehearsal's


def main() -> None:
    """Put the worse version live, and count the sessions until it is taken back."""
    arguments = argparse.ArgumentParser(description="How soon a worse version is rolled back.")
    arguments.add_argument("home", type=Path, help="of a finished rehearsal")
    arguments.add_argument("data", type=Path, help="its data set")
    arguments.add_argument("--worse", type=int, required=True, help="version to put live")
    arguments.add_argument("--documents", type=int, default=1500)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--share", type=float, default=0.5, help="of the sessions with held-out queries")
    given = arguments.parse_args()
    dataset = read_dataset(given.data, max_documents=given.documents, seed=given.seed)
    settings = load_settings(given.home / "relevanced.toml", {"trial": {"share": given.share}})
    parts = Parts(given.home.resolve(), settings, seed=given.seed)
    try:
        figures = harmed(parts, Searchers(dataset, SearchersPolicy(), seed=given.seed, start=START), given.worse)
    finally:
        parts.close()
    print(json.dumps({"bench": "harm", **figures}))  # noqa: T201


def harmed(parts: Parts, searchers: Searchers, worse: int) -> dict[str, int | str | None]:
    """Give how many sessions there were, how many of them saw both versions, and what was decided."""
    better = parts.promotion.serving().live_version_id
    parts.promotion.promote(worse, actor="ada", reason="on purpose")
    observe(parts.stages)
    sessions = mixed = 0
    for week in WEEKS:
        coming = list(searchers.sessions(week))
        for start in range(0, len(coming), AT_ONCE):
            some = coming[start : start + AT_ONCE]
            answers = parts.search.search(
                [
                    SearchRequest(
                        one.user_query, client_id=one.client_id, session_id=one.session_id, timestamp=one.timestamp
                    )
                    for one in some
                ]
            )
            mixed += sum(len({hit.version_id for hit in answer.hits}) > 1 for answer in answers)
            parts.sink.write([click for pair in zip(some, answers, strict=True) for click in searchers.click(*pair)])
            spool = parts.source_openers()["spool"]()
            consume_until_empty(spool, parts.log_store)
            spool.close()
            sessions += len(some)
            trial = open_trial(parts.database)
            outcome = check_trial(parts.stages, trial.started_at if trial else parts.clock.now())
            if parts.promotion.serving().live_version_id == better and outcome:
                return {"sessions": sessions, "mixed": mixed, "live": better, "sentence": outcome.sentence}
    return {"sessions": sessions, "mixed": mixed, "live": worse, "sentence": None}


if __name__ == "__main__":
    main()
