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
from engines.formats.source import Source
from engines.formats.torch_export.export_job import ExportJob, observe
from engines.formats.torch_export.forward import run_module, users_network
from engines.formats.torch_export.inference_form import inference_form
from engines.formats.torch_export.nesting import nested_network
from engines.formats.torch_export.onnx_export import export, flat_network
from engines.formats.torch_export.output_shapes import output_specs
from engines.formats.torch_export.statefulness import refuse_stateful
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.inputs import network_inputs
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LISTED = 20


def check_numbers(network: torch.nn.Module) -> None:
    """Refuse weights that are no numbers: whatever the inputs, such a network computes none.

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
class Export:
    """A network as ONNX.

    Attributes:
        onnx_path: The ONNX file, external data beside it where it is larger than 2 GiB.
        module: The source in evaluation mode: takes the inputs in order, returns a tuple of the outputs in order.
        signature: Inputs and outputs, the batch dynamic from 1 to the largest.
        exporter: `dynamo` or `torchscript`.
        constants: Lines of code, `net.py:12`, whose decisions about values tracing made constants.
    """

    onnx_path: Path
    module: torch.nn.Module
    signature: Signature
    exporter: str
    constants: tuple[str, ...] = ()


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
    """Write a network as ONNX and return it with its original.

    Args:
        network: In evaluation mode; takes the component's inputs by position, or as their places nest. It is changed
            to its `inference_form`.
        component: The component, its inputs declared.
        arguments: One array per input.
        onnx_path: Where the ONNX file goes.
        output_names: Names of the outputs where the component says none.
        architecture: The file that the network was built by, for the line that an error names.
        companions: Files that travel with the package, by their path in it.

    Raises:
        EngineFailure: INVALID_MODEL for weights that are NaN; as `export_onnx` besides.
    """
    check_numbers(network)
    network, notes = inference_form(network)
    exported = export_onnx(
        nested_network(network, component),
        network_inputs(component.inputs),
        arguments,
        onnx_path,
        max_batch=component.largest_batch,
        output_names=component.output_names or output_names,
        architecture=architecture,
    )
    return Source(
        exported.onnx_path,
        exported.signature,
        f"torch's {exported.exporter} exporter",
        lambda values: run_module(exported.module, values),
        exported.module,
        {given.name: given.preprocessing for given in component.inputs if given.preprocessing.active},
        exported.constants,
        companions or {},
        (*notes, *_warnings(exported.constants)),
    )


def _warnings(constants: Sequence[str]) -> tuple[str, ...]:
    """Return what to know of a network that decides by values, of which tracing records one decision."""
    if not constants:
        return ()
    return (
        f"Tracing recorded the decisions at {', '.join(constants)} as the samples made them, and every form keeps to "
        "them: an input that decides otherwise gets a wrong result, which samples that all decide alike cannot show. "
        "Write them with tensor operators (torch.where instead of if), or test with samples that take every "
        "branch.",
    )


def export_onnx(
    network: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    samples: Sequence[NDArray[Any]],
    onnx_path: Path,
    *,
    max_batch: int = 1,
    output_names: Sequence[str] = (),
    architecture: Path | None = None,
) -> Export:
    """Write the network as ONNX, with its batch axis dynamic from 1 to `max_batch`, and others as the specs say.

    Args:
        network: In evaluation mode.
        inputs: Specs for one sample, the batch axis first, in the order of `forward`.
        samples: One array per input, of the spec's dtype and shape; the batch may be any.
        onnx_path: Where the file goes.
        max_batch: Largest batch. Where it is 1 the batch is fixed at what the specs say.
        output_names: Names of the outputs; `output_0`… where empty.
        architecture: The file that the network was built by, for the line that an error names.

    Raises:
        EngineFailure: INVALID_SPEC, SHAPE_MISMATCH, INVALID_ARCHITECTURE, STATEFUL_MODEL, UNSUPPORTED_OPERATOR or
            TOOLCHAIN_CRASHED.
    """
    _check_inputs(inputs, samples)
    _check_arguments(network, inputs)
    job = ExportJob(network, inputs, samples, output_names, max_batch, onnx_path, architecture)
    observed = observe(job)
    names = _output_names(output_names, len(observed[job.traced].shapes))
    _check_names([*(spec.name for spec in inputs), *names])
    refuse_stateful(network, samples, names, architecture)
    exporter, constants = export(replace(job, output_names=names), observed)
    log.info("Exported to ONNX by the %s exporter.", exporter)
    batched = [spec.batched(max_batch) if max_batch > 1 and spec.has_batch else spec for spec in inputs]
    signature = Signature(tuple(batched), output_specs(job, observed, names))
    return Export(onnx_path, flat_network(network), signature, exporter, tuple(dict.fromkeys(constants)))


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
            "handed over by position: write those after a '*', and **kwargs, as plain ones.",
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
