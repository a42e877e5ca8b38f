"""Lays out the files of a model in a work directory, as the inputs of a task."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engines.failures import EngineFailure, invalid
from engines.formats import FORMATS
from engines.formats.detection import detect
from engines.spec.request import WorkInput
from engines.spec.source_files import ROOT


def laid_out(path: Path, source_format: str, workdir: Path) -> tuple[str, list[WorkInput]]:
    """Link or copy the files of a model into `workdir/source`.

    Returns:
        The file that is opened, empty if that is the whole folder, and all files as inputs of work.

    Raises:
        EngineFailure: INVALID_SPEC for a folder of several models.
    """
    root = workdir / ROOT
    root.mkdir(parents=True)
    main = "" if FORMATS[source_format].main_files else _main_file(path, source_format)
    for name in _names(path, main, source_format):
        _bring(path / name if path.is_dir() else path.parent / name, root / name)
    files = sorted(entry for entry in root.rglob("*") if entry.is_file())
    return main, [WorkInput(path=entry.relative_to(workdir).as_posix()) for entry in files]


def _main_file(path: Path, source_format: str) -> str:
    """Return the file that is opened: the only one of its format in a folder."""
    if path.is_file():
        return path.name
    found = [entry for entry in sorted(path.rglob("*")) if entry.is_file() and _is(entry, source_format)]
    if len(found) != 1:
        raise invalid(f"The folder '{path}' has {len(found)} models; name the file itself.")
    return found[0].relative_to(path).as_posix()


def _is(path: Path, source_format: str) -> bool:
    try:
        return detect(path) == source_format
    except EngineFailure:
        return False


def _names(path: Path, main: str, source_format: str) -> list[str]:
    """Return the files that the model is made of, relative to its folder."""
    if not main:
        return [entry.relative_to(path).as_posix() for entry in sorted(path.rglob("*")) if entry.is_file()]
    original = path / main if path.is_dir() else path
    return [main, *((Path(main).parent / name).as_posix() for name in FORMATS[source_format].files_beside(original))]


def _bring(original: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(original.resolve(), target)
    except OSError:
        shutil.copyfile(original, target)
