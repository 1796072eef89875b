"""Commands as a person or a script gives them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relevanced.daemon.__main__ import run

Give = Callable[..., tuple[int, str, str]]  # a command's words -> its status, what it says and what it complains of


def giver(home: Path, capsys: pytest.CaptureFixture[str], *before: str) -> Give:
    """Give commands in one state directory, each behind the words that stand before all."""

    def give(*arguments: str) -> tuple[int, str, str]:
        status = run(["--home", str(home), *before, *arguments], debug=False)
        said = capsys.readouterr()
        return status, said.out, said.err

    return give
