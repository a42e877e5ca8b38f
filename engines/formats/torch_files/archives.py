"""Opens the zip archives that torch writes, for descriptions: without torch, and without running anything of them."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.spec.sniff import sniff

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError),
    *(AttributeError, LookupError, TypeError, ValueError, OverflowError),
)
"""Errors of entries that are damaged, encrypted or of another form."""


@contextmanager
def opened(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive of a kind; errors while it is read inside the block say that the file is not one.

    Args:
        path: The file.
        what: The kind, as `sniff` names it: `a TorchScript archive`.

    Raises:
        EngineFailure: INVALID_MODEL with what the file looks like, or that it is damaged.
    """
    looks = sniff(path)
    if looks != what:
        raise _invalid(path, what.removeprefix("a "), f"it looks like {looks}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise _invalid(path, what.removeprefix("a "), f"it is damaged ({str(error)[:200]})") from error


def _invalid(path: Path, what: str, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is not a usable {what}: {why}.",
        suggested_fix="Upload the file as torch wrote it, whole.",
    )
