"""The files of a model as formats see them: which are there, and what their configurations say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.spec.sniff import sniff
from engines.spec.source_files import DOCUMENTS

_LARGEST_JSON = 16 * 2**20


@dataclass(frozen=True)
class ModelFiles:
    """The files of a folder, or one file."""

    root: Path
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> ModelFiles:
        """Return one file, or those of a folder.

        Raises:
            EngineFailure: INVALID_MODEL for a folder without files.
        """
        if path.is_file():
            return cls(path.parent, (path,))
        paths = tuple(sorted(entry for entry in path.rglob("*") if entry.is_file()))
        if not paths:
            raise EngineFailure(FailureReason.INVALID_MODEL, "The model has no file.")
        return cls(path, paths)

    def named(self, name: str) -> Path | None:
        """Return the file of a name in the folder itself."""
        return next((path for path in self.paths if path == self.root / name), None)

    def ending(self, *suffixes: str) -> list[Path]:
        """Return the files whose names end so."""
        return [path for path in self.paths if path.suffix.lower() in suffixes]

    @property
    def models(self) -> list[Path]:
        """Files that can be models: not texts, configurations or sample data."""
        return [path for path in self.paths if path.suffix.lower() not in DOCUMENTS and not path.name.startswith(".")]

    def look_like(self, words: str) -> bool:
        """Return whether a file looks like something, in the words of `sniff`."""
        return any(sniff(path) == words for path in self.models)

    def keys_of(self, name: str) -> set[str]:
        """Return the keys of a JSON object in the folder itself; none if it is not one, which its reader says."""
        path = self.named(name)
        try:
            return set(read_json(path)) if path else set()
        except EngineFailure:
            return set()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; an empty one if there is no file.

    Raises:
        EngineFailure: INVALID_MODEL if the file does not hold a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError("it is larger than any configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__} instead of an object")
    except (ValueError, RecursionError) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{path.name}' is not a JSON object: {error}.",
            suggested_fix="Upload the file as save_pretrained() wrote it.",
        ) from error
    return value
