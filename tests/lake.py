"""A log store that tests may open any number of times, as each process of a daemon does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevanced.daemon.database import Database
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.privacy import DEFAULTS, PrivacyPolicy


@dataclass(frozen=True)
class Lake:
    """Where one log store lies."""

    database_url: str
    data_path: Path

    def __post_init__(self) -> None:
        Database.open(self.database_url, self.data_path).close()  # brings the schema, keys among it

    def open(self, policy: PrivacyPolicy = DEFAULTS) -> LogStore:
        return LogStore.open(self.database_url, self.data_path, policy)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What any other reader of the log sees now."""
        store = self.open()
        try:
            return store._connection.execute(f"USE lake; {query}").fetchall()
        finally:
            store.close()
