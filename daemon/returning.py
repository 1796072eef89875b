"""
Returning to a version that was live once: at once where it follows the documents, else after its index is built again.

In:  a version's number. Out: the same version, live. The four verbs in their order; the plan is said by who calls.
"""

from relevanced.daemon import history
from relevanced.daemon.errors import BadInput
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Outcome, Version
from relevanced.daemon.stages import Stages
from relevanced.daemon.steps import verify_version


def needs_rebuilding(version: Version) -> bool:
    """
    Whether a version has to be prepared and verified before it can be live.

    Raises: BadInput when it cannot, since its model was dropped.
    """
    if version.state == "verified":
        return False
    if version.model_dropped_at is not None:
        raise BadInput(
            f"The model of version {version.version_id} was dropped {version.model_dropped_at:%Y-%m-%d %H:%M}, so its"
            " index cannot be built again; `relevanced versions` lists those that have theirs."
        )
    return True


def return_to(stages: Stages, version_id: int, *, actor: str, reason: str, progress: Progress) -> Outcome:
    """
    Make a version live that was live before.

    Raises: BadInput when it never was, its model was dropped, or its index is not accepted; FailStep when it cannot be
        built. The live version stays then.
    """
    version = stages.promotion.require_lived(version_id)
    if not needs_rebuilding(version):
        return stages.promotion.rollback_to(version_id, actor=actor, reason=reason)
    followed = {one.index_id for one in history.followers(stages.database)}
    if version.index_version_id is not None and version.index_id not in followed:
        owner = history.version(stages.database, version.index_id)
        stages.index.prepare(owner.version_id, stages.models.open(owner.directory), progress)
    prepared = stages.index.prepare(version_id, stages.models.open(version.directory), progress)
    verified = verify_version(stages, history.version(stages.database, version_id), [])
    if verified.verdict != "accepted":
        raise BadInput(f"{verified.sentence} The live version stays.")
    back = stages.promotion.rollback_to(version_id, actor=actor, reason=reason)
    return Outcome(f"{prepared.sentence} {back.sentence}", {**prepared.numbers, **back.numbers})
