"""The files of a model version in a work directory; no path may lead out of it."""

from __future__ import annotations

from pathlib import Path

from engines.failures import EngineFailure, FailureReason

DOCUMENTS = (".md", ".txt", ".json", ".gitattributes", ".gitignore", ".npz", ".npy", ".jinja")
"""Ends of names of files that accompany a model: texts, configurations, sample data."""

ROOT = "source"
"""Folder of the work directory with the files of the model version."""

TEST_DATA = "samples/test.npz"
"""The user's own samples in a work directory."""


def file_inside(workdir: Path, relative: str) -> Path:
    """Return a file of the work directory.

    Raises:
        EngineFailure: INVALID_SPEC if the path leads out of the directory, INPUT_UNAVAILABLE if nothing is there.
    """
    path = _inside(workdir, relative)
    if not path.is_file():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The input '{relative}' is not in the work directory.")
    return path


def folder_inside(workdir: Path, relative: str) -> Path:
    """Return a folder of the work directory that has no link out of it.

    Raises:
        EngineFailure: UNSAFE_MODEL for a link that leads out, INVALID_SPEC if the folder itself does,
            INPUT_UNAVAILABLE if nothing is there.
    """
    folder = _inside(workdir, relative)
    if not folder.is_dir():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The folder '{relative}' is not in the work directory.")
    check_links(folder, workdir / ROOT)
    return folder


def check_links(folder: Path, root: Path) -> None:
    """Refuse links in a folder that lead out of the root.

    Raises:
        EngineFailure: UNSAFE_MODEL naming the link.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{path.relative_to(folder)}' is a link that leads out of the model's folder; it was not followed.",
                suggested_fix="Upload the file itself in place of the link: cp -rL writes a copy without links.",
            )


def _inside(workdir: Path, relative: str) -> Path:
    path = (workdir / relative).resolve()
    if not path.is_relative_to(workdir.resolve()):
        raise EngineFailure(FailureReason.INVALID_SPEC, f"The path '{relative}' leads out of the work directory.")
    return path
