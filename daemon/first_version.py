"""
The first version: the base model as it is, indexed, verified and live: something to search, and to beat.

In:  the model policy and the documents. Out: version 1, live. Wherever it was killed, it may be begun again.
"""

from relevanced.daemon import history
from relevanced.daemon.base_models import origin_of
from relevanced.daemon.errors import BadInput
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Outcome
from relevanced.daemon.stages import Stages


def make_first_version(stages: Stages, policy: ModelPolicy, progress: Progress) -> Outcome:
    """
    Adopt the base model, index every document with it, and promote it.

    Raises: BadInput when its index cannot be verified, or the base model cannot be used.
    """
    version_id = _adopt(stages, policy)
    directory = history.version(stages.database, version_id).directory
    encoder = stages.models.open(directory)
    prepared = stages.index.prepare(version_id, encoder, progress)
    verified = stages.index.verify(version_id, encoder, [])
    if verified.verdict != "accepted":
        raise BadInput(verified.sentence)
    promoted = stages.promotion.promote(version_id, actor="first start", reason="the base model, before any click")
    return Outcome(f"{prepared.sentence} {promoted.sentence}", {**prepared.numbers, "version": version_id})


def _adopt(stages: Stages, policy: ModelPolicy) -> int:
    """Take the base model into the model store, unless an earlier attempt has."""
    complete = history.versions(stages.database)
    if complete:
        return complete[0].version_id
    version_id = history.first_number(stages.database)
    if version_id is None:
        with stages.database.connection() as connection:
            version_id = history.register_version(connection, None)
    directory = stages.models.adopt(policy, version_id)
    manifest = origin_of(policy.base)
    stages.models.write_manifest(directory, manifest)
    encoder = stages.models.open(directory)
    history.complete_version(stages.database, version_id, directory, encoder.fingerprint, encoder.dimension, manifest)
    return version_id
