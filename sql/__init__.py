"""
Named SQL.

A .sql file holds statements under headings of the form `-- name --`; what follows a heading up to the next one is
the statement, its first comment line the sentence about it. `sql.postgres["promote_version"]` gives the text.
DuckDB's statements take parameters as $name, Postgres' as %(name)s.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Final

_HEADING: Final = re.compile(r"^-- (\w+) --$", re.MULTILINE)


class Statements(Mapping[str, str]):
    """The statements of one folder by name, read once when first asked for."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in sorted(files(__name__).joinpath(self._folder).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".sql") and file.name != "schema.sql":
                _, *parts = _HEADING.split(file.read_text(encoding="utf-8"))
                for name, text in zip(parts[::2], parts[1::2], strict=True):
                    if name in found:
                        raise ValueError(f"Two statements in sql/{self._folder} are called {name}; rename one.")
                    found[name] = text.strip()
        return found

    def __getitem__(self, name: str) -> str:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def script(folder: str, name: str) -> str:
    """The whole text of a file such as postgres/schema.sql or postgres/migrations/0001_start.sql."""
    return files(__name__).joinpath(folder, name).read_text(encoding="utf-8")


def migrations() -> dict[str, str]:
    """The migrations of Postgres, name to text, in their order."""
    folder = files(__name__).joinpath("postgres", "migrations")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}


postgres: Final = Statements("postgres")
duckdb: Final = Statements("duckdb")
