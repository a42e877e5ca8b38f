"""Finds the files that a detector is made of among those of an upload: one checkpoint, and one configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, invalid

CHECKPOINTS = (".pth", ".pt", ".ckpt")
LARGEST_CONFIG = 2**20
"""Most bytes of a configuration."""


def checkpoints(paths: Iterable[str]) -> list[str]:
    """Return the paths that are checkpoints by their names."""
    return [path for path in paths if path.lower().endswith(CHECKPOINTS)]


def the_checkpoint(root: Path, named: str, advice: str) -> Path:
    """Return the checkpoint of an upload: the one that is named, else the only one.

    Args:
        root: The folder of the upload.
        named: Path of the checkpoint or of the configuration; empty if nobody names one.
        advice: What to upload if there is none.

    Raises:
        EngineFailure: INVALID_MODEL if there is none; INVALID_SPEC if there are several and none is named.
    """
    if named and checkpoints([named]):
        return root / named
    found = checkpoints(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    if not found:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "There is a configuration and no checkpoint beside it; weights are never downloaded.",
            suggested_fix=advice,
        )
    if len(found) > 1:
        raise invalid(f"The upload has {len(found)} checkpoints: {', '.join(found[:20])}. Set `source_file` to one.")
    return root / found[0]


def the_config(root: Path, configs: Collection[Path], checkpoint: Path, named: str) -> Path:
    """Return the configuration of a checkpoint: the one that is named, the only one, or the one of the same stem.

    Args:
        root: The folder of the upload.
        configs: The configurations that no other builds on.
        checkpoint: The checkpoint.
        named: Path of the configuration or of the checkpoint; empty if nobody names one.

    Raises:
        EngineFailure: INVALID_MODEL if it cannot be told.
    """
    if root / named in configs:
        return root / named
    beside = [path for path in configs if path.parent == checkpoint.parent]
    same = [path for path in configs if path.stem == checkpoint.stem]
    for found in (list(configs), same, beside):
        if len(found) == 1:
            return found[0]
    if not configs:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "The configurations build on each other in a circle, so that none of them is the detector's.",
            suggested_fix="Upload the whole configuration as one file, or take out the base that leads back.",
        )
    shown = ", ".join(sorted(path.relative_to(root).as_posix() for path in configs)[:20])
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"It cannot be told which configuration '{checkpoint.name}' belongs to; the upload has: {shown}.",
        suggested_fix="Upload the checkpoint with its own configuration alone, and the files that this one builds on.",
    )


def read_config(path: Path, root: Path) -> str:
    """Return the text of a configuration.

    Raises:
        EngineFailure: INVALID_MODEL for one that is too large or no UTF-8.
    """
    shown = path.relative_to(root).as_posix()
    if path.stat().st_size > LARGEST_CONFIG:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{shown}' is larger than 1 MiB, the most that a configuration may have.",
            suggested_fix="Upload the configuration of the detector alone, without data in it.",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{shown}' is not UTF-8 text.",
            suggested_fix="Store the configuration in UTF-8.",
        ) from error


def base_inside(base: str, config: Path, root: Path, line: int, advice: str) -> Path:
    """Return the file of an upload that a configuration builds on.

    Raises:
        EngineFailure: UNSAFE_MODEL naming it and the line if it is a URL, absolute or outside the upload; INVALID_MODEL
            if it is not among the files.
    """
    shown = config.relative_to(root).as_posix()
    where = f"{shown}:{line}" if line else shown
    path = (config.parent / base).resolve()
    outside = "://" in base or Path(base).is_absolute() or base.startswith("~")
    if outside or not path.is_relative_to(root.resolve()):
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL,
            f"The configuration builds on '{base}' ({where}), which is not in the upload; it was not followed.",
            node=where,
            suggested_fix=advice,
        )
    if not path.is_file():
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The configuration builds on '{base}' ({where}), which is not among the uploaded files.",
            node=where,
            suggested_fix=advice,
        )
    return root / path.relative_to(root.resolve())
