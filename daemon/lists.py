"""Lists in the settings: the file has them, the environment has texts with commas."""

from typing import Annotated

from pydantic import BeforeValidator


def by_comma(given: object) -> object:
    """A text as the list of what stands between its commas; anything else as it is."""
    return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else given


Texts = Annotated[tuple[str, ...], BeforeValidator(by_comma)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(by_comma)]
