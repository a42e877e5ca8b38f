"""What every entry that makes a package shares: an empty folder to begin with, and progress shared among components."""

from __future__ import annotations

import shutil
from pathlib import Path

from engines.preparation import Progress
from engines.sandbox import Reporter

PACKAGE_DIR = "package"
PACKAGING = 0.97
"""Progress at which every component is done and the package is written."""


def fresh_package(workdir: Path, *, keep_scratch: bool = False) -> Path:
    """Return an empty `workdir/package`; what an earlier attempt left in it and in `workdir/scratch` is removed.

    Args:
        workdir: The work directory.
        keep_scratch: Whether `workdir/scratch` stays, for work that goes on from there.
    """
    package = workdir / PACKAGE_DIR
    for folder in (package,) if keep_scratch else (package, workdir / "scratch"):
        shutil.rmtree(folder, ignore_errors=True)
    package.mkdir(parents=True)
    return package


def share_of(report: Reporter, index: int, count: int) -> Progress:
    """Return what takes the progress of one of `count` components, each of which has an equal part of the work."""
    span = PACKAGING / count

    def progress(fraction: float, message: str) -> None:
        report.progress(span * (index + fraction), message)

    return progress
