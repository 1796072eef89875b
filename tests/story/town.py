"""
A small town for the stories: a home with 300 clinical terms, their first version, and a week of searchers.

They are attentive and careful, so that a week of few is enough for a candidate that is better.
"""

from pathlib import Path

from relevanced.daemon.config import load_settings
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.documents import load_documents
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.ports import silent
from relevanced.daemon.records import SearchRequest
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from relevanced.daemon.rehearsal.hpo import write_hpo
from relevanced.daemon.rehearsal.rehearse import START
from relevanced.daemon.rehearsal.searchers import Searchers, SearchersPolicy
from relevanced.daemon.wiring import Parts

SETTINGS = """
[model]
max_tokens = 24

[training]
epochs = 2

[gate]
min_queries = 10
min_improvement = 0  # the stories are about what happens after the gate, not about its strictness
confidence = 0.05
yearly_error = 0.99
max_slice_loss = 1

[schedule]
cron = "0 0 1 1 *"
new_queries = 1000000
min_triplets = 10
"""


def small_dataset(directory: Path) -> Dataset:
    write_hpo(directory)
    return read_dataset(directory, max_documents=300, max_train_queries=160, max_test_queries=40, seed=1)


def settle(home: Path, dataset: Dataset, settings: str = SETTINGS) -> None:
    """Load the documents, make the first version, and let the searchers search and click for a week."""
    (home / "relevanced.toml").write_text(settings)
    parts = Parts(home, load_settings(home / "relevanced.toml"))
    load_documents(parts.database, dataset.documents, silent)
    make_first_version(parts.stages, parts.settings.model, silent)
    live_a_week(parts, dataset, 0)
    parts.close()


def live_a_week(parts: Parts, dataset: Dataset, week: int) -> None:
    """Let the searchers of one week, from 0, search and click, and store what they did."""
    searchers = Searchers(dataset, SearchersPolicy(mean_sessions=8, bias="none", noise=0.01), seed=1, start=START)
    sessions = list(searchers.sessions(week))
    answers = parts.search.search(
        [
            SearchRequest(one.user_query, client_id=one.client_id, session_id=one.session_id, timestamp=one.timestamp)
            for one in sessions
        ]
    )
    parts.sink.write([click for pair in zip(sessions, answers, strict=True) for click in searchers.click(*pair)])
    spool = parts.source_openers()["spool"]()
    consume_until_empty(spool, parts.log_store)
    spool.close()
