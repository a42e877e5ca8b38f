"""Makes a source of a torch network: exported to ONNX, and run as it was for the truth."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.formats.source import Source, SourceGraph
from engines.formats.torch_export.arguments import nested_network
from engines.formats.torch_export.export_job import ExportJob, Observed, Point, observe, output_specs
from engines.formats.torch_export.forward import run_module, users_network
from engines.formats.torch_export.inference_form import inference_form
from engines.formats.torch_export.onnx_export import export, flat_network
from engines.formats.torch_export.statefulness import refuse_stateful
from engines.runtimes.torch_networks.decisions import decision_warnings
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.inputs import active_steps, network_inputs
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LISTED = 20


def check_numbers(network: torch.nn.Module) -> None:
    """Refuse weights that are NaN: such a network computes NaN for every input.

    Raises:
        EngineFailure: INVALID_MODEL that names the tensors, and how many of their values are NaN.
    """
    counts = {key: _not_numbers(weight) for key, weight in users_network(network).state_dict().items()}
    found = [f"{key} ({count} values)" for key, count in counts.items() if count]
    if found:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The weights hold NaN, in {len(found)} tensor{'s' * (len(found) > 1)}: the first is {found[0]}.",
            evidence=listing("NaN", found),
            suggested_fix="The training diverged, or the file was written wrongly: take an earlier checkpoint. If the "
            "network does not use these values, set them to 0 and save it again.",
        )


def _not_numbers(weight: Any) -> int:
    """Return how many of a weight's values are NaN; 0 for quantized and 8-bit ones, which torch cannot tell."""
    import torch
    from torch.nn.parameter import is_lazy

    if not isinstance(weight, torch.Tensor) or is_lazy(weight) or weight.is_quantized or weight.itemsize < 2:
        return 0
    return int(weight.isnan().sum())


def listing(title: str, entries: Sequence[str]) -> str:
    """Return a title with the number of entries and the first of them; empty if there are none."""
    more = f", and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return f"{title} ({len(entries)}): {', '.join(entries[:_LISTED])}{more}" if entries else ""


@dataclass(frozen=True)
class ExaminedNetwork:
    """A network that was run at all shapes at which its graph will be traced and checked.

    Attributes:
        module: The network in evaluation mode: takes the inputs in order, returns a tuple of the outputs in order.
        signature: Inputs and outputs, the batch dynamic from 1 to the largest.
        job: The export.
        observed: The outputs of the network, by point.
    """

    module: torch.nn.Module
    signature: Signature
    job: ExportJob
    observed: Mapping[Point, Observed]

    def write_graph(self) -> SourceGraph:
        """Write the ONNX file, external data beside it if it is larger than 2 GiB.

        Raises:
            EngineFailure: UNSUPPORTED_OPERATOR, SHAPE_MISMATCH or TOOLCHAIN_CRASHED.
        """
        exporter, found = export(self.job, self.observed)
        log.info("Exported to ONNX by the %s exporter.", exporter)
        constants = tuple(dict.fromkeys(found))
        return SourceGraph(self.job.path, f"torch's {exporter} exporter", constants, decision_warnings(constants))


def module_source(
    network: torch.nn.Module,
    component: Component,
    arguments: Sequence[Array],
    onnx_path: Path,
    *,
    output_names: Sequence[str] = (),
    architecture: Path | None = None,
    companions: Mapping[str, Path] | None = None,
) -> Source:
    """Return a network as a source; it is exported to ONNX when somebody takes its graph.

    Args:
        network: In evaluation mode; takes the component's inputs by position, or as their places nest. It is changed
            to its `inference_form`.
        component: The component, its inputs declared.
        arguments: One array per input.
        onnx_path: Where the ONNX file goes.
        output_names: Names of the outputs if the component does not name them.
        architecture: The file that the network was built by, for the line that an error names.
        companions: Files that travel with the package, by their path in it.

    Raises:
        EngineFailure: INVALID_MODEL for weights that are NaN; as `examine`.
    """
    check_numbers(network)
    network, notes = inference_form(network)
    examined = examine(
        nested_network(network, component),
        network_inputs(component.inputs),
        arguments,
        onnx_path,
        max_batch=component.largest_batch,
        output_names=component.output_names or output_names,
        architecture=architecture,
    )
    return Source(
        examined.signature,
        examined.write_graph,
        lambda values: run_module(examined.module, values),
        examined.module,
        active_steps(component.inputs),
        companions=companions or {},
        notes=notes,
    )


def examine(
    network: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    samples: Sequence[NDArray[Any]],
    onnx_path: Path,
    *,
    max_batch: int = 1,
    output_names: Sequence[str] = (),
    architecture: Path | None = None,
) -> ExaminedNetwork:
    """Check that a network can be exported with these inputs, and run it at all shapes that count.

    Args:
        network: In evaluation mode.
        inputs: Specs for one sample, the batch axis first, in the order of `forward`.
        samples: One array per input, of the spec's dtype and shape; the batch may be any.
        onnx_path: Where the ONNX file will go.
        max_batch: Largest batch; the batch is dynamic up to it. If it is 1, the batch is what the specs say.
        output_names: Names of the outputs; `output_0`… if empty.
        architecture: The file that the network was built by, for the line that an error names.

    Raises:
        EngineFailure: INVALID_SPEC, SHAPE_MISMATCH, INVALID_ARCHITECTURE or STATEFUL_MODEL.
    """
    _check_inputs(inputs, samples)
    _check_arguments(network, inputs)
    job = ExportJob(network, inputs, samples, output_names, max_batch, onnx_path, architecture)
    observed = observe(job)
    names = _output_names(output_names, len(observed[job.traced].shapes))
    _check_names([*(spec.name for spec in inputs), *names])
    refuse_stateful(network, samples, names, architecture)
    batched = [spec.batched(max_batch) if max_batch > 1 and spec.has_batch else spec for spec in inputs]
    signature = Signature(tuple(batched), output_specs(job, observed, names))
    return ExaminedNetwork(flat_network(network), signature, replace(job, output_names=names), observed)


def _check_inputs(inputs: Sequence[TensorSpec], samples: Sequence[NDArray[Any]]) -> None:
    if not inputs:
        raise _invalid(
            "The template names no input; a PyTorch source needs name and shape of each, in forward's order."
        )
    if len(inputs) != len(samples):
        raise _invalid(f"There are {len(samples)} sample arrays for {len(inputs)} inputs.")
    for spec, sample in zip(inputs, samples, strict=True):
        if spec.dtype == "bfloat16":
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The input '{spec.name}' is of bfloat16, which no runtime takes as an input.",
                suggested_fix="Declare it as float32: a network in bfloat16 is read in float32. A program of "
                "torch.export keeps its types: export it again from model.float(), with inputs of float32.",
            )
        ends = enumerate(zip(sample.shape, spec.min, spec.max, strict=False))
        fits = all(low <= extent <= high for axis, (extent, low, high) in ends if axis != spec.batch_axis)
        if sample.ndim != len(spec.opt) or not fits:
            raise _invalid(
                f"The sample of input '{spec.name}' has the shape {sample.shape}; the template says {spec.opt}."
            )


def _check_arguments(network: torch.nn.Module, inputs: Sequence[TensorSpec]) -> None:
    """Refuse inputs that `forward` cannot take by position."""
    signature = inspect.signature(network.forward)
    try:
        signature.bind(*inputs)
    except TypeError as error:
        names = ", ".join(spec.name for spec in inputs)
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"'forward{signature}' cannot be called with the template's inputs ({names}), in this order: {error}.",
            suggested_fix="Declare one input for each argument without a default, in forward's order. Arguments are "
            "passed by position: write those after a '*', and **kwargs, as plain ones.",
        ) from error


def _output_names(names: Sequence[str], count: int) -> list[str]:
    if not names:
        return [f"output_{index}" for index in range(count)]
    if len(names) != count:
        raise _invalid(f"The template names {len(names)} outputs, but 'forward' returns {count} tensors.")
    return list(names)


def _check_names(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise _invalid(f"Names of inputs and outputs must differ; used more than once: {', '.join(repeated)}.")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
