"""
What every command begins with: the parts of its state directory.

In:  the context in which the options before the command's name are kept. Out: Parts, closed at the end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from relevanced.daemon.config import load_settings
from relevanced.daemon.wiring import Parts

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@contextmanager
def opened(context: typer.Context, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Parts]:
    """Give the parts, with the settings that the command's own options override, and close them whatever happens."""
    home, config = context.obj
    parts = Parts(home, load_settings(config or home / "relevanced.toml", overrides))
    try:
        yield parts
    finally:
        parts.close()
