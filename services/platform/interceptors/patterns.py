"""What the patterns of the protos ask for, in words: nobody should have to read a regular expression to call Lathe."""

from __future__ import annotations

import re

__all__ = ["wanted"]

_NAME = re.compile(r"\^[a-z][A-Za-z]*/.*\$")
_WORDS = {
    "^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$": (
        "must be at most 100 of a-z, 0-9, '.', '_' and '-', with a letter or a digit at both ends"
    ),
    "^[a-z]([a-z0-9._-]{0,61}[a-z0-9])?$": (
        "must be at most 63 of a-z, 0-9, '.', '_' and '-', begin with a letter, and end with a letter or a digit"
    ),
    "^[a-z0-9][a-z0-9._/-]*$": "must be of a-z, 0-9, '.', '_', '/' and '-', and begin with a letter or a digit",
    "^[A-Za-z0-9][A-Za-z0-9._-]*$": "must be of A-Z, a-z, 0-9, '.', '_' and '-', and begin with a letter or a digit",
    "^[A-Za-z_][A-Za-z0-9_]*$": "must be a Python identifier, such as DigitsCNN",
    "^[0-9a-f]{64}$": "must be a SHA-256: 64 digits of 0-9 and a-f",
    "^[a-z][A-Za-z]*Tasks/[^/]+$": "must be the name of a task, such as conversionTasks/…",
}


def wanted(pattern: str) -> str:
    """Return what a text has to be to match a pattern of the protos; empty if there are no words for it."""
    if words := _WORDS.get(pattern):
        return words
    if not _NAME.fullmatch(pattern):
        return ""
    name = pattern[1:-1].replace("[^/]+", "…").replace("[0-9]{1,12}", "{number}").replace("[0-9a-f]{64}", "{sha256}")
    either = [name.replace("(versions|aliases)", each) for each in ("versions", "aliases")]
    return f"must be a name such as {' or '.join(dict.fromkeys(either))}"
