"""Exports a network to ONNX with a dynamic batch, by whichever of torch's two exporters manages it.

The exporter of torch.export goes first; the older one, which traces TorchScript, where that fails or fixes the batch. A
graph counts only when ONNX Runtime computes outputs of the right shapes with it, at the smallest and the largest batch.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure
from engines.frontends.checkpoint import first_line
from engines.frontends.export_failures import explain
from engines.frontends.forward import flatten_outputs, run_forward, to_tensors
from engines.signature import TensorSpec

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

OPSET = 20
"""Operator set of exported graphs: the newest that both exporters write."""

_CHECKED_ELEMENTS = 2**22
"""Most elements of an input at which a graph is tried: 27 images of 224 × 224. Parity tries the rest."""
_PLAIN = (tuple, list, dict, OrderedDict)


@dataclass(frozen=True)
class ExportJob:
    """What to export.

    Attributes:
        network: The network, in evaluation mode.
        inputs: Specs for one sample, the batch axis first, in the order of `forward`.
        samples: One array per input.
        output_names: Names of the outputs, in flat order.
        max_batch: Largest batch; the batch stays as the specs say where it is 1.
        path: Where the ONNX file goes.
    """

    network: torch.nn.Module
    inputs: Sequence[TensorSpec]
    samples: Sequence[NDArray[Any]]
    output_names: Sequence[str]
    max_batch: int
    path: Path

    def at_batch(self, batch: int) -> list[NDArray[Any]]:
        """Return the samples, repeated or cut to a batch where an input has a batch axis."""
        return [np.resize(value, (batch, *value.shape[1:])) if value.ndim else value for value in self.samples]

    @property
    def checked_batches(self) -> list[int]:
        """Batches at which a graph is tried: 1, 2 and the largest that is no burden to try."""
        if self.max_batch == 1:
            return [self._fixed_batch]
        per_sample = max((value.size // max(len(value), 1) for value in self.samples if value.ndim), default=1)
        largest = max(min(self.max_batch, _CHECKED_ELEMENTS // max(per_sample, 1)), 2)
        return sorted({1, 2, largest})

    @property
    def traced_batch(self) -> int:
        """Batch to trace with: 2 where it is dynamic, because exporters take 1 for a constant."""
        return 2 if self.max_batch > 1 else self._fixed_batch

    @property
    def _fixed_batch(self) -> int:
        return next((spec.opt[0] for spec in self.inputs if spec.opt), 1)


Shapes = dict[int, list[tuple[int, ...]]]
"""Shapes of the outputs by batch."""


def export(job: ExportJob) -> tuple[str, Shapes]:
    """Write the ONNX file; return the exporter's name, `dynamo` or `torchscript`, and the outputs' shapes by batch.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR, SHAPE_MISMATCH where only the batch of the samples works, or
            TOOLCHAIN_CRASHED.
    """
    expected = {batch: _shapes(job, batch) for batch in job.checked_batches}
    errors: list[Exception] = []
    exporters: tuple[tuple[str, Callable[[ExportJob], None]], ...] = (
        ("dynamo", _dynamo),
        ("torchscript", _torchscript),
    )
    for name, exporter in exporters:
        try:
            with _quiet():
                exporter(job)
            _check(job, expected)
        except EngineFailure:
            raise
        except Exception as error:
            log.info("The %s exporter did not manage: %s", name, first_line(error), exc_info=error)
            errors.append(error)
        else:
            return name, expected
    raise explain(errors, job.network, to_tensors(job.at_batch(job.checked_batches[-1])))


def _shapes(job: ExportJob, batch: int) -> list[tuple[int, ...]]:
    try:
        return [tuple(output.shape) for output in run_forward(job.network, job.at_batch(batch))]
    except EngineFailure as failure:
        failure.evidence = f"at batch {batch}, {failure.evidence}"
        if job.max_batch > 1:
            failure.suggested_fix = "Write the network for any batch (x.shape[0], -1), or set the largest batch to 1."
        raise


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


def _dynamo(job: ExportJob) -> None:
    import torch

    tensors = to_tensors(job.at_batch(job.traced_batch))
    shapes: Any = None
    if job.max_batch > 1:
        batch = torch.export.Dim("batch", min=1, max=job.max_batch)
        shapes = tuple({0: batch} if tensor.ndim else None for tensor in tensors)
    direct = _exports_directly(job.network, tensors)
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
            flat_network(job.network),
            tensors,
            job.path,
            dynamo=False,
            dynamic_axes={name: {0: "batch"} for name in names} if job.max_batch > 1 else None,
            opset_version=OPSET,
            input_names=[spec.name for spec in job.inputs],
            output_names=list(job.output_names),
        )


def _exports_directly(network: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> bool:
    """Return whether the exporter understands the network's arguments and outputs as they are.

    Going without the wrapper keeps the names of parameters and nodes those of the network.
    """
    import torch

    kinds = {parameter.kind for parameter in inspect.signature(network.forward).parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return False

    def plain(value: Any) -> bool:
        if type(value) in _PLAIN:
            return all(map(plain, value.values() if isinstance(value, dict) else value))
        return isinstance(value, torch.Tensor)

    with torch.inference_mode():
        return plain(network(*tensors))


def _check(job: ExportJob, expected: Shapes) -> None:
    """Run the graph at each batch; raise where names or shapes are not those of the network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(job.path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in job.inputs]
    found = [value.name for value in session.get_inputs()]
    if found != names:
        raise ValueError(f"the graph has the inputs {found} instead of {names}")
    for batch, shapes in expected.items():
        outputs = session.run(list(job.output_names), dict(zip(names, job.at_batch(batch), strict=True)))
        actual = [tuple(output.shape) for output in outputs]
        if actual != shapes:
            raise ValueError(f"at batch {batch} the graph gives outputs of shapes {actual} instead of {shapes}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the log what no user can act on; put into it what tracing made a constant."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            if warning.category.__name__ == "TracerWarning":
                log.warning("%s:%d: %s", warning.filename, warning.lineno, first_line(Warning(warning.message)))
    finally:
        registration.setLevel(level)
