"""`optimize()`: a model in, the fastest form of it that still computes the right thing out, and a report."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.api.display import show_report, shown
from engines.api.test_data import write_test_data
from engines.failures import EngineFailure, invalid
from engines.package.writer import PACKAGE_DIR
from engines.runtimes import Where, installed
from engines.spec.devices import Device, load_catalog
from engines.spec.request import ConversionRequest

if TYPE_CHECKING:
    from engines.api.callables import OptimizedModel
    from engines.api.report import OptimizationReport
    from engines.api.source import GivenModel
    from engines.optimization.request import OptimizationRequest

BUDGET_SECONDS = 60
LEVELS = {0: "FP32", 1: "BF16"}
"""Lowest precision by optimization level: 0 loses nothing, 1 allows half precision."""
_MACHINES = {"x86_64": "cpu-x86-64", "amd64": "cpu-x86-64", "aarch64": "cpu-arm64", "arm64": "cpu-arm64"}


def optimize(  # noqa: PLR0917 - the order that callers know
    input_model: Any,
    optimization_level: int,
    device_type: str,
    input_shapes: Any,
    test_data: Any = None,
    save_path: str | Path | None = None,
    *,
    objective: str = "LATENCY",
    budget_seconds: int = BUDGET_SECONDS,
    max_error: float = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Any, OptimizationReport]:
    """Return the fastest form of a model that still computes the right thing, and a report of the search.

    Each form runs in a process of its own but is built in this one: if a runtime's builder crashes, it takes this
    process with it. A task of the service would list the form as failed and continue.

    Args:
        input_model: A `torch.nn.Module`, or the path of a model: ONNX, TorchScript, an exported program, a Hugging Face
            folder, a SavedModel or a frozen graph.
        optimization_level: 0 is lossless; 1 allows half precision.
        device_type: Device of the catalog that this machine is or has: `cpu-x86-64`, `nvidia-t4`; `cpu` stands for
            its processor.
        input_shapes: One item per input: `['1*3*224*224']`; `[{'range': ['1*3*224*224', '8*3*224*224']}]`; by name,
            `{'image': '1*3*224*224'}`; nested inputs as tensor information, `"input_0['key']:float(1*8)"`. If empty,
            the shapes that the files state, or for a module those of the test data.
        test_data: Samples to measure on: path of an NPZ or NPY, arrays or tensors by name or in the order of the
            inputs; random samples if absent. For a model of several networks, by `network/input`.
        save_path: Folder that the package is written to: new or empty.
        objective: What to optimize for: `LATENCY`, `THROUGHPUT` or `SIZE`.
        budget_seconds: Time for the search, in seconds.
        max_error: Largest relative error at level 0; 0 stands for 1e-4.
        seed: Seed of all random numbers.
        progress: Whether a bar and, at the end, a table are shown.

    Returns:
        A callable with the model's own signature (torch tensors for modules, arrays for graphs), and the report. For a
        model of several networks, such as a pipeline or an encoder with a decoder, a dictionary of callables by name.

    Raises:
        EngineFailure: The request is impossible, or the model cannot be read or run; the message says what to do.
    """
    if optimization_level not in LEVELS:
        raise invalid(f"The optimization level must be 0 (lossless) or 1 (half precision), not {optimization_level!r}.")
    device = _device(device_type)
    target = _target(save_path)
    keep = tempfile.TemporaryDirectory(prefix="lathe-", ignore_cleanup_errors=True)
    with _advice():
        given = _given(input_model, input_shapes, device, test_data, Path(keep.name))
        conversion = write_test_data(given.conversion, test_data, Path(keep.name), given.inputs)
        conversion = conversion.model_copy(update={"seed": seed})
        work = _work(conversion, LEVELS[optimization_level], objective, budget_seconds, max_error)
        report = _searched(given, work, Path(keep.name), visible=progress)
        package = Path(keep.name) / PACKAGE_DIR
        if target is not None:
            shutil.copytree(package, target, dirs_exist_ok=True)
        model = _opened(given, target or package, keep)
    if progress:
        show_report(report)
    return model, report


@contextmanager
def _advice() -> Iterator[None]:
    """Add the evidence and the suggested fix of a failure to its message, as notes that tracebacks show."""
    try:
        yield
    except EngineFailure as failure:
        for words in (failure.evidence, failure.suggested_fix):
            if words:
                failure.add_note(words)
        raise


def _searched(given: GivenModel, work: OptimizationRequest, workdir: Path, *, visible: bool) -> OptimizationReport:
    from engines.api.optimization import HTML_NAME, optimize_work
    from engines.api.report import OptimizationReport

    with shown(f"Optimizing {given.name}", visible=visible) as reporter:
        outcome = optimize_work(work, workdir, reporter, reader=given.read)
    return OptimizationReport(outcome["result"], (workdir / PACKAGE_DIR / HTML_NAME).read_text(encoding="utf-8"))


def _device(name: str) -> Device:
    """Return the device, which has to be this machine: the search measures here."""
    here = _MACHINES.get(platform.machine().lower(), "")
    device = load_catalog().device(here if name.lower() == "cpu" else name)
    if not device.buildable_runtimes:
        raise invalid(f"This release builds nothing for '{device.id}'.")
    if device.id != here and not any(room.where(device) is Where.HERE for room in installed(device)):
        raise invalid(
            f"optimize() measures on this machine, which is '{here or platform.machine()}', not '{device.id}'."
        )
    return device


def _target(save_path: str | Path | None) -> Path | None:
    """Return the folder of the package, checked before the search begins."""
    if save_path is None:
        return None
    target = Path(save_path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise invalid(f"save_path '{target}' exists and is not an empty folder; name another.")
    return target


def _given(model: Any, input_shapes: Any, device: Device, test_data: Any, workdir: Path) -> GivenModel:
    from engines.api.source import given_module, given_path

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return given_module(model, input_shapes, device, test_data)
    if not isinstance(model, str | Path):
        raise invalid(f"The model must be a torch.nn.Module or the path of a model, not a {type(model).__name__}.")
    return given_path(Path(model), workdir, input_shapes, device)


def _work(
    conversion: ConversionRequest, goal: str, objective: str, budget_seconds: int, max_error: float
) -> OptimizationRequest:
    from engines.optimization.request import OptimizationRequest, OptimizationSpec

    if objective not in {"LATENCY", "THROUGHPUT", "SIZE"}:
        raise invalid(f"The objective must be LATENCY, THROUGHPUT or SIZE, not {objective!r}.")
    spec = OptimizationSpec(
        precision_goal=goal,
        objective=objective,
        search_budget=max(1.0, budget_seconds),
        error_threshold=max_error,
    )
    return OptimizationRequest(conversion=conversion, template=conversion.template.model_dump(mode="json"), spec=spec)


def _opened(given: GivenModel, directory: Path, keep: object) -> Any:
    """Return the callable of the package; for a model of several networks, a dictionary of them by name."""
    from engines.api.callables import OpenPackage, OptimizedGraph, OptimizedModule
    from engines.package.manifest import read_manifest

    package = OpenPackage(directory, read_manifest(directory), keep)
    models: dict[str, OptimizedModel] = {}
    for component in package.manifest.components:
        structure, convention = given.structures.get(component.name), given.conventions[component.name]
        graph = structure is None
        models[component.name] = (
            OptimizedGraph(package, component) if graph else OptimizedModule(package, component, convention, structure)
        )
    return next(iter(models.values())) if len(models) == 1 else models
