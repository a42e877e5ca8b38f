"""Says what the files of a model version contain: graphs, tensors, operators, sizes. Runs in the sandboxed child."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from engines.failures import EngineFailure, FailureReason
from engines.spec.source_files import model_files

DESCRIBED_FORMATS = (
    "PTH",
    "TORCHSCRIPT",
    "EXPORTED_PROGRAM",
    "ONNX",
    "HUGGINGFACE",
    "SAVED_MODEL",
    "FROZEN_GRAPH",
    "PACKAGE",
)
"""Formats of `lathe.registry.v1.ModelFormat` that `describe` can read."""

_DIRECTORIES = {"PACKAGE": "manifest.json", "HUGGINGFACE": "config.json", "SAVED_MODEL": "saved_model.pb"}
"""The file that stands for each format that is a directory."""


class Reporter(Protocol):
    """Where progress goes."""

    def progress(self, fraction: float, message: str) -> None:
        """Report a fraction from 0 to 1 and what is being done."""
        ...


def describe(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Return what the files contain, in the JSON form of `lathe.registry.v1.ModelDescription` without names.

    Args:
        request: `format`, a name of ModelFormat; `files`, their paths; and `root`, the folder of the work directory in
            which they lie, so that no name of a file can meet one of the sandbox's own. The work directory itself where
            absent.
        workdir: The work directory.
        report: Told the file that is being read.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, or INVALID_SPEC for a format that cannot be described.
    """
    kind, files = str(request["format"]), sorted(map(str, request["files"]))
    if kind not in DESCRIBED_FORMATS:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"Files of the format {kind} cannot be described; {', '.join(DESCRIBED_FORMATS)} can.",
        )
    workdir /= str(request.get("root", ""))
    for file in files:
        _check_inside(workdir, file)
    read = _reader(kind)
    models = _models(kind, files)
    graphs: list[dict[str, Any]] = []
    for index, file in enumerate(models):
        report.progress(index / len(models), f"reading {file}")
        graphs += read(workdir, file)
    report.progress(1.0, "described")
    return {
        "format": kind,
        "graphs": graphs,
        "parameter_count": sum(graph["parameter_count"] for graph in graphs),
        "size_bytes": sum((workdir / file).stat().st_size for file in files),
    }


def _reader(kind: str) -> Callable[[Path, str], list[dict[str, Any]]]:
    """Return what reads a format. Imported here because those modules use this package's `sniff`."""
    from engines.formats.huggingface.description import describe_huggingface
    from engines.formats.onnx.description import describe_onnx
    from engines.formats.pytorch.description import describe_pth
    from engines.formats.tensorflow.description import describe_frozen_graph, describe_saved_model
    from engines.formats.torch_archives import describe_exported_program, describe_torchscript
    from engines.package.description import describe_package

    readers: dict[str, Callable[[Path, str], list[dict[str, Any]]]] = {
        "PTH": lambda workdir, file: describe_pth(workdir / file, file),
        "ONNX": lambda workdir, file: [describe_onnx(workdir / file, file)],
        "TORCHSCRIPT": lambda workdir, file: [describe_torchscript(workdir / file, file)],
        "EXPORTED_PROGRAM": lambda workdir, file: [describe_exported_program(workdir / file, file)],
        "HUGGINGFACE": lambda workdir, _: describe_huggingface(workdir),
        "SAVED_MODEL": lambda workdir, _: [describe_saved_model(workdir)],
        "FROZEN_GRAPH": lambda workdir, file: [describe_frozen_graph(workdir / file, file)],
        "PACKAGE": lambda workdir, _: describe_package(workdir),
    }
    return readers[kind]


def _models(kind: str, files: list[str]) -> list[str]:
    """Return the files to read: one stands for a directory, and beside models lie their weights and texts."""
    if not files:
        raise EngineFailure(FailureReason.INVALID_MODEL, "The model version has no file.")
    if kind in _DIRECTORIES:
        return [_DIRECTORIES[kind]]
    return model_files(kind, files) or files[:1]


def _check_inside(workdir: Path, file: str) -> None:
    path = (workdir / file).resolve()
    if not path.is_relative_to(workdir.resolve()) or not path.is_file():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The file '{file}' is not in the work directory.")
