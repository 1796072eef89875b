"""
What the log may know of a person, and what it may show.

In:  the policy [privacy], the keys in Postgres. Out: the functions protected_id and masked in DuckDB, through which the
log store takes in ids and texts; an id as the log keeps it under each key, for who forgets a person.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import psycopg
from annotated_types import Ge

from relevanced import sql

KEY_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyPolicy:
    """What is kept of the people who search."""

    k: Annotated[int, Ge(1)] = 3  # people who typed a query before anybody is shown it; below 3 one may know the other
    # What training does with a query of fewer people: "mask" learns from it as it is kept, patterns replaced; "exclude"
    # leaves it out. Most queries are rare, and their clicks teach.
    rare_queries: Literal["mask", "exclude"] = "mask"
    patterns: bool = True  # replace e-mail addresses, card numbers and the like in queries, before they are stored
    key_days: Annotated[int, Ge(1)] = 90  # of one key of the hash; a person whose key has changed counts as another
    retention_days: Annotated[int, Ge(1)] = 760  # of every row; 25 months are what France's CNIL allows for measuring

    @property
    def min_actors(self) -> int:
        """How many actors must have typed a query for training to learn from it."""
        return self.k if self.rare_queries == "exclude" else 1


DEFAULTS: Final = PrivacyPolicy()


def keys(postgres: psycopg.Connection[Any], key_days: int) -> dict[int, bytes]:
    """Every key by its number, the newest last; it is made here when there is none younger than key_days."""
    with postgres.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        cursor.execute(sql.postgres["lock_privacy_keys"])
        cursor.execute(sql.postgres["add_privacy_key"], {"key": secrets.token_bytes(KEY_BYTES), "key_days": key_days})
        return {int(number): bytes(key) for number, key in cursor.execute(sql.postgres["privacy_keys"])}


def protection(key_number: int, key: bytes, *, patterns: bool) -> list[str]:
    """Statements that make protected_id and masked for every cursor of a DuckDB."""
    protected_id = sql.duckdb["create_protected_id"].format(key_number=key_number, key=key.hex())
    return [protected_id, sql.duckdb["create_masked" if patterns else "create_unmasked"]]


def protected_id(raw_id: str, key_number: int, key: bytes) -> str:
    """What protected_id of sql/duckdb/privacy.sql makes of an id under this key."""
    return f"k{key_number}:{sha256(key + raw_id.encode()).hexdigest()[:32]}"
