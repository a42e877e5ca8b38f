"""Exports a network to ONNX with a dynamic batch, by whichever of torch's two exporters manages it.

The exporter of torch.export goes first; the older one, which traces TorchScript, where that fails or fixes the batch. A
graph counts only when ONNX Runtime computes outputs of the right shapes with it at a batch that it was not traced with:
at 1, because a dynamic batch is traced with 2. Parity holds its values to the network at larger batches.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, first_line
from engines.frontends.export_failures import explain
from engines.frontends.export_job import ExportJob, Observed
from engines.frontends.forward import flatten_outputs, to_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

OPSET = 20
"""Operator set of exported graphs: the newest that both exporters write."""


def export(job: ExportJob, observed: Mapping[int, Observed]) -> tuple[str, list[str]]:
    """Write the ONNX file; return the exporter's name, `dynamo` or `torchscript`, and what it made constants of.

    Args:
        job: What to export.
        observed: What the network returned, by batch.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR, SHAPE_MISMATCH where only the batch of the samples works, or
            TOOLCHAIN_CRASHED.
    """
    errors: list[Exception] = []
    direct = observed[job.traced_batch].plain and _takes_named_arguments(job.network)
    exporters: tuple[tuple[str, Callable[[], None]], ...] = (
        ("dynamo", lambda: _dynamo(job, direct=direct)),
        ("torchscript", lambda: _torchscript(job)),
    )
    for name, exporter in exporters[1:] if _script(job.network) else exporters:
        try:
            with _quiet() as constants:
                exporter()
            _check(job, observed[job.checked_batch].shapes)
        except EngineFailure:
            raise
        except Exception as error:
            log.info("The %s exporter did not manage: %s", name, first_line(error), exc_info=error)
            errors.append(error)
        else:
            return name, constants
    raise explain(errors, job.network, to_tensors(job.at_batch(job.traced_batch)))


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


def _dynamo(job: ExportJob, *, direct: bool) -> None:
    """Export by torch.export; `direct` leaves the wrapper out, which keeps the network's own names of parameters."""
    import torch

    tensors = to_tensors(job.at_batch(job.traced_batch))
    shapes: Any = None
    if job.max_batch > 1:
        batch = torch.export.Dim("batch", min=1, max=job.max_batch)
        shapes = tuple({0: batch} if tensor.ndim else None for tensor in tensors)
    program = torch.onnx.export(
        job.network if direct else flat_network(job.network),
        tensors,
        dynamo=True,
        dynamic_shapes=shapes if direct or shapes is None else (shapes,),
        opset_version=OPSET,
        input_names=[spec.name for spec in job.inputs],
        output_names=list(job.output_names),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    program.save(job.path)


def _torchscript(job: ExportJob) -> None:
    import torch

    tensors = to_tensors(job.at_batch(job.traced_batch))
    names = [*(spec.name for spec, tensor in zip(job.inputs, tensors, strict=True) if tensor.ndim), *job.output_names]
    with torch.no_grad():
        torch.onnx.export(
            _script(job.network) or flat_network(job.network),
            tensors,
            job.path,
            dynamo=False,
            dynamic_axes={name: {0: "batch"} for name in names} if job.max_batch > 1 else None,
            opset_version=OPSET,
            input_names=[spec.name for spec in job.inputs],
            output_names=list(job.output_names),
        )


def _script(network: torch.nn.Module) -> torch.jit.ScriptModule | None:
    """Return the TorchScript that a network stands for: torch.export refuses it, tracing would fix its choices."""
    import torch

    found = getattr(network, "script", None)
    return found if isinstance(found, torch.jit.ScriptModule) else None


def _takes_named_arguments(network: torch.nn.Module) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(network.forward).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL not in kinds


def _check(job: ExportJob, shapes: Sequence[tuple[int, ...]]) -> None:
    """Run the graph at the checked batch; raise where names or shapes are not those of the network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(job.path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in job.inputs]
    found = [value.name for value in session.get_inputs()]
    if found != names:
        raise ValueError(f"the graph has the inputs {found} instead of {names}")
    batch = job.checked_batch
    outputs = session.run(list(job.output_names), dict(zip(names, job.at_batch(batch), strict=True)))
    actual = tuple(tuple(output.shape) for output in outputs)
    if actual != tuple(shapes):
        raise ValueError(f"at batch {batch} the graph gives outputs of shapes {actual} instead of {tuple(shapes)}")


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep from the log what no user can act on; log and give the lines of code of which tracing made constants."""
    constants: list[str] = []
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield constants
        for warning in caught:
            if warning.category.__name__ == "TracerWarning":
                place = f"{Path(warning.filename).name}:{warning.lineno}"
                constants.append(place)
                log.warning("%s: %s", place, first_line(Warning(warning.message)))
    finally:
        registration.setLevel(level)
