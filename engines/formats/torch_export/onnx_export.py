"""Exports a network to ONNX with its dynamic axes, by the first of torch's two exporters that manages it.

The exporter of torch.export goes first; the older one, which traces TorchScript, if that fails or fixes an axis. A
graph counts only if ONNX Runtime computes outputs of the right shapes with it at shapes that it was not traced with:
at a batch of 1, because a dynamic one is traced with 2, and at both ends of other axes that vary. Parity holds its
values to the network at larger batches.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, first_line
from engines.formats.torch_export.export_failures import explain
from engines.formats.torch_export.export_job import ExportJob, Observed, Point
from engines.formats.torch_export.forward import flatten_outputs, to_tensors
from engines.formats.torch_export.onnx_translations import symbolic_translations, translations
from engines.runtimes.torch_networks.decisions import decisions
from engines.runtimes.torch_networks.state import kept_state
from engines.sandbox.tasklog import quiet

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

OPSET = 20
"""Operator set of exported graphs: the newest that both exporters write."""


def export(job: ExportJob, observed: Mapping[Point, Observed]) -> tuple[str, list[str]]:
    """Write the ONNX file; return the exporter's name, `dynamo` or `torchscript`, and what it made constants of.

    Args:
        job: The export.
        observed: The outputs of the network, by point.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR, SHAPE_MISMATCH if only the shapes of the samples work, or
            TOOLCHAIN_CRASHED.
    """
    errors: list[Exception] = []
    direct = observed[job.traced].plain and _takes_named_arguments(job.network)
    exporters: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("dynamo", lambda: _dynamo(job, direct=direct)),
        ("torchscript", lambda: _torchscript(job, observed)),
    )
    for name, exporter in exporters[1:] if _script(job.network) else exporters:
        try:
            with kept_state(job.network), quiet(log), _without_warnings():
                constants = exporter()
            _check(job, observed)
        except EngineFailure:
            raise
        except Exception as error:
            log.info("The %s exporter did not manage: %s", name, first_line(error), exc_info=error)
            errors.append(error)
        else:
            return name, constants
    raise explain(errors, job)


def flat_network(network: torch.nn.Module) -> torch.nn.Module:
    """Return a module around the network that takes the inputs in order and returns a tuple of tensors."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flatten_outputs(self.network(*inputs)))

    return Flat().eval()


def _dynamo(job: ExportJob, *, direct: bool) -> list[str]:
    """Export by torch.export, which refuses decisions by values, so that nothing is a constant.

    `direct` leaves the wrapper out, which keeps the network's own names of parameters.
    """
    import torch

    tensors = to_tensors(job.at(job.traced))
    shapes = _dynamic_shapes(job)
    program = torch.onnx.export(
        job.network if direct else flat_network(job.network),
        tensors,
        dynamo=True,
        dynamic_shapes=shapes if direct or shapes is None else (shapes,),
        opset_version=OPSET,
        input_names=[spec.name for spec in job.inputs],
        output_names=list(job.output_names),
        custom_translation_table=translations(),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    program.save(job.path)
    return []


def _dynamic_shapes(job: ExportJob) -> tuple[dict[int, Any] | None, ...] | None:
    """Return the axes of each input that may vary: one batch for all, others by themselves; None if none may."""
    import torch

    if job.max_batch == 1 and not any(job.dynamic_axes):
        return None
    batch = torch.export.Dim("batch", min=1, max=job.max_batch) if job.max_batch > 1 else None
    shapes: list[dict[int, Any] | None] = []
    for spec, axes in zip(job.inputs, job.dynamic_axes, strict=True):
        dims: dict[int, Any] = {spec.batch_axis: batch} if batch and spec.has_batch else {}
        dims |= {axis: torch.export.Dim.DYNAMIC(min=low, max=high) for axis, (low, high) in axes.items()}
        shapes.append(dims or None)
    return tuple(shapes)


def _torchscript(job: ExportJob, observed: Mapping[Point, Observed]) -> list[str]:
    """Export by tracing; return the lines of code whose decisions it made constants of."""
    import torch

    tensors = to_tensors(job.at(job.traced))
    script = _script(job.network)
    fixed = job.max_batch == 1 and not any(job.dynamic_axes)
    with torch.no_grad(), symbolic_translations(OPSET), decisions(len(tensors), fixed_shapes=fixed) as constants:
        torch.onnx.export(
            _taking(script, len(tensors)) if script else flat_network(job.network),
            tensors,
            job.path,
            dynamo=False,
            dynamic_axes=_named_axes(job, observed) or None,
            opset_version=OPSET,
            input_names=[spec.name for spec in job.inputs],
            output_names=list(job.output_names),
        )
    for place in constants:
        log.warning("Tracing made a constant of the decision at %s.", place)
    return list(constants)


def _script(network: torch.nn.Module) -> torch.jit.ScriptModule | None:
    """Return the TorchScript program in a network, if any: torch.export refuses it, tracing would fix its choices."""
    import torch

    found = getattr(network, "script", None)
    return found if isinstance(found, torch.jit.ScriptModule) else None


def _taking(script: Any, count: int) -> Any:
    """Return a script that takes the first arguments of another by position; the others keep their defaults.

    The exporter wants a value for every argument, and takes no None.
    """
    import torch

    if count == len(script.forward.schema.arguments) - 1:
        return script

    class Outer(torch.jit.ScriptModule):
        def __init__(self) -> None:
            super().__init__()
            self.script = script

    names = ", ".join(f"value_{index}" for index in range(count))
    outer: Any = Outer()
    outer.define(f"def forward(self, {names}):\n    return self.script({names})\n")
    return outer.eval()


def _named_axes(job: ExportJob, observed: Mapping[Point, Observed]) -> dict[str, dict[int, str]]:
    """Return a name for each axis that varies, one for all batch axes; of outputs, those that were seen to vary."""
    named: dict[str, dict[int, str]] = {}
    seen = zip(*(observed[point].shapes for point in job.checked), strict=True)
    varying = [
        {axis for axis, extents in enumerate(zip(*shapes, strict=False)) if len(set(extents)) > 1} for shapes in seen
    ]
    pairs = zip(observed[job.traced_alone].shapes, observed[job.traced].shapes, strict=True)
    growing = [[axis for axis, (one, two) in enumerate(zip(*ends, strict=False)) if one != two] for ends in pairs]
    counted = [[spec.batch_axis] if job.max_batch > 1 and spec.has_batch else [] for spec in job.inputs]
    names = [*(spec.name for spec in job.inputs), *job.output_names]
    axes_of = zip(names, [*job.dynamic_axes, *varying], [*counted, *growing], strict=True)
    for index, (name, axes, batch) in enumerate(axes_of):
        found = {axis: f"extent_{index}_{axis}" for axis in axes} | dict.fromkeys(batch, "batch")
        if found:
            named[name] = found
    return named


def _takes_named_arguments(network: torch.nn.Module) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(network.forward).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL not in kinds


def _check(job: ExportJob, observed: Mapping[Point, Observed]) -> None:
    """Run the graph at the checked points; raise if names or shapes are not those of the network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(job.path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in job.inputs]
    found = [value.name for value in session.get_inputs()]
    if found != names:
        raise ValueError(f"the graph has the inputs {found} instead of {names}")
    for point in job.checked:
        try:
            outputs = session.run(list(job.output_names), dict(zip(names, job.at(point), strict=True)))
        except Exception as error:
            raise ValueError(f"{job.describe(point)} the graph cannot be run: {first_line(error)}") from error
        actual, expected = tuple(tuple(output.shape) for output in outputs), observed[point].shapes
        if actual != expected:
            raise ValueError(f"{job.describe(point)} the graph gives outputs of shapes {actual} instead of {expected}")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep warnings of the exporters from the terminal: no user can act on them."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        registration.setLevel(level)
