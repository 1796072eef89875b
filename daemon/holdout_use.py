"""
How often held-out queries were asked: a holdout that decides for ever wears out.

In:  the clusters that a gate has asked. Out: their counts, and those that are asked no more; read by mining and trials.
"""

from collections.abc import Collection

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.holdout import HoldoutPolicy, cluster_hash


def note_use(database: Database, cycle_id: int, cluster_keys: Collection[str]) -> dict[str, float]:
    """Count a verdict for each of the clusters, once a cycle; give mean_uses and most_uses of them."""
    hashes = sorted({cluster_hash(key) for key in cluster_keys})
    with database.connection() as connection:
        connection.execute(sql.postgres["note_holdout_use"], {"cluster_hashes": hashes, "cycle_id": cycle_id})
        (row,) = connection.execute(sql.postgres["holdout_use"], {"cluster_hashes": hashes})
    return dict(row)


def retire(database: Database, policy: HoldoutPolicy) -> set[bytes]:
    """Let go of clusters that were asked often enough; give the hashes of all that were ever let go."""
    with database.connection() as connection:
        connection.execute(
            sql.postgres["retire_holdout"], {"max_verdicts": policy.max_verdicts, "min_kept": policy.min_kept}
        )
    return retired_clusters(database)


def retired_clusters(database: Database) -> set[bytes]:
    """The hashes of the clusters that are asked no more, for they are trained on."""
    with database.connection() as connection:
        return {bytes(row["cluster_hash"]) for row in connection.execute(sql.postgres["retired_holdout"])}
