"""
What all that asks an endpoint has in common: its key, and what it says when it fails.

In:  secrets of the settings, errors of clients. Out: texts.
"""

from pydantic import SecretStr

from relevanced.daemon.errors import BadInput


def key_of(secret: SecretStr | None, section: str) -> str:
    """
    Give an endpoint's key; empty where there is none. One that was read from a file ends its line.

    Args:
        section: of the settings, for the sentence.
    Raises: BadInput for a key that no header can hold, without showing it.
    """
    key = secret.get_secret_value().strip() if secret else ""
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"[{section}] api_key holds a character that no key has; copy it again.")
    return key


def first_line(error: Exception) -> str:
    """What an error says, as one sentence."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line if line.endswith(".") else f"{line}."
