"""What every entry that makes a package shares: an empty folder at first, progress among components, and the end."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from engines.formats.preparation import Progress
from engines.package.description import describe_package
from engines.package.writer import PackageContent, write_package
from engines.sandbox import Reporter

log = logging.getLogger(__name__)

PACKAGE_DIR = "package"
PACKAGING = 0.97
"""Progress at which every component is done and the package is written."""


def fresh_package(workdir: Path) -> Path:
    """Return an empty `workdir/package`; what an earlier attempt left in it and in `workdir/scratch` is removed."""
    package = workdir / PACKAGE_DIR
    for folder in (package, workdir / "scratch"):
        shutil.rmtree(folder, ignore_errors=True)
    package.mkdir(parents=True)
    return package


def share_of(report: Reporter, index: int, count: int) -> Progress:
    """Return what takes the progress of one of `count` components, each of which has an equal part of the work."""
    span = PACKAGING / count

    def progress(fraction: float, message: str) -> None:
        report.progress(span * (index + fraction), message)

    return progress


def finish_package(workdir: Path, content: PackageContent, report: Reporter) -> dict[str, Any]:
    """Write everything beside the models that lie in the package, and remove `workdir/scratch`.

    Returns:
        What the outcomes of all entries have: `files`, without digests; `description`, the graphs that they contain;
        and `architecture_digests`.
    """
    package = workdir / PACKAGE_DIR
    files = write_package(package, content)
    shutil.rmtree(workdir / "scratch", ignore_errors=True)
    log.info("Package written: %d files, %d bytes", len(files), sum((package / name).stat().st_size for name in files))
    report.progress(1.0, "done")
    architectures = content.request.architectures.values()
    return {
        "files": [{"path": name} for name in files],
        "description": {"graphs": describe_package(package)},
        "architecture_digests": {entry.name: entry.digest for entry in architectures if entry.name},
    }
