"""Describes the files of a model version: graphs, tensors, operators, sizes. Runs in the sandboxed child."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.package import Package
from engines.formats.protocol import Format


class Reporter(Protocol):
    """Receives progress."""

    def progress(self, fraction: float, message: str) -> None:
        """Report a fraction from 0 to 1 and what is being done."""
        ...


def describe(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Return what the files contain, in the JSON form of `lathe.registry.v1.ModelDescription` without names.

    Args:
        request: `format`, a name of ModelFormat; `files`, their paths; and `root`, the folder of the work directory
            that they are in, so that no file can have the name of one of the sandbox's own files. Without `root`, they
            are in the work directory itself.
        workdir: The work directory.
        report: Receives the file that is being read.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, or INVALID_SPEC for a format that cannot be described.
    """
    kind, files = str(request["format"]), sorted(map(str, request["files"]))
    if kind not in FORMATS:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"Files of the format {kind} cannot be described; {', '.join(sorted(FORMATS))} can.",
        )
    if not files:
        raise EngineFailure(FailureReason.INVALID_MODEL, "The model version has no file.")
    workdir /= str(request.get("root", ""))
    for file in files:
        _check_inside(workdir, file)
    source_format = FORMATS[kind]
    models = source_format.main_files[:1] or source_format.model_files(files) or files[:1]
    graphs: list[dict[str, Any]] = []
    for index, file in enumerate(models):
        report.progress(index / len(models), f"reading {file}")
        graphs += _described(source_format, workdir, file)
    report.progress(1.0, "described")
    return {
        "format": kind,
        "graphs": graphs,
        "parameter_count": sum(graph["parameter_count"] for graph in graphs),
        "size_bytes": sum((workdir / file).stat().st_size for file in files),
    }


def _described(source_format: Format, folder: Path, file: str) -> list[dict[str, Any]]:
    if isinstance(source_format, Package):  # described from a floor above the formats
        from engines.package.description import describe_package

        return describe_package(folder)
    return source_format.describe(folder, file)


def _check_inside(workdir: Path, file: str) -> None:
    path = (workdir / file).resolve()
    if not path.is_relative_to(workdir.resolve()) or not path.is_file():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The file '{file}' is not in the work directory.")
