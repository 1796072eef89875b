"""
Following: every version that is kept takes over the changes of the documents, so that a rollback needs no work.

In:  the outbox, the kept versions. Out: their tables, up to date; one that several versions search, once for all.
"""

from relevanced.daemon import history
from relevanced.daemon.errors import FailStep
from relevanced.daemon.records import Outcome
from relevanced.daemon.stages import Stages


def follow(stages: Stages) -> Outcome:
    """
    Bring live, previous and any other prepared version up to date with the documents.

    A model is opened only where a document changed. One version that fails does not keep the others from following.

    Raises: FailStep of the first that failed, once all had their turn.
    """
    applied: dict[int, int] = {}
    failures: list[FailStep] = []
    for version in history.followers(stages.database):
        try:
            behind = stages.index.is_behind(version.version_id)
            encoder = stages.models.open(version.directory) if behind else None
            applied[version.version_id] = stages.index.catch_up(version.version_id, encoder) if encoder else 0
        except FailStep as error:
            failures.append(error)
    if failures:
        raise failures[0]
    kept = history.kept_versions(stages.database)
    names = " and ".join(str(version.version_id) for version in kept) or "none"
    sentence = f"Versions kept up to date: {names}; {max(applied.values(), default=0):,} changed documents."
    return Outcome(sentence, {"changed_documents": max(applied.values(), default=0)})
