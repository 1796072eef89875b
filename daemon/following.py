"""
Following: every version that is kept takes over the changes of the documents, so that a rollback needs no work.

In:  the outbox, the kept versions. Out: their tables, up to date.
"""

from relevanced.daemon import history
from relevanced.daemon.records import Outcome
from relevanced.daemon.stages import Stages


def follow(stages: Stages) -> Outcome:
    """Bring live, previous and any other prepared version up to date with the documents."""
    applied = {
        version.version_id: stages.index.catch_up(version.version_id, stages.models.open(version.directory))
        for version in history.kept_versions(stages.database)
    }
    names = " and ".join(str(number) for number in applied) or "none"
    sentence = f"Versions kept up to date: {names}; {max(applied.values(), default=0):,} changed documents."
    return Outcome(sentence, {"changed_documents": max(applied.values(), default=0)})
