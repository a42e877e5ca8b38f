"""Reads a PyTorch state dict with its architecture into ONNX. Runs the user's code: in the sandboxed child only."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.checkpoint import load_state_dict
from engines.formats.pytorch.network import build_network
from engines.formats.pytorch.weights import load_weights
from engines.formats.torch_export.export_job import ExportJob, observe
from engines.formats.torch_export.forward import run_module
from engines.formats.torch_export.onnx_export import export, flat_network
from engines.formats.torch_export.output_shapes import output_specs
from engines.formats.torch_export.statefulness import refuse_stateful
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = ["Export", "PytorchSource", "export_onnx", "load_network", "run_module"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PytorchSource:
    """A trained network: weights, and the code that builds what they belong into.

    Attributes:
        checkpoint: File of `torch.save`.
        architecture: Python file of the architecture.
        class_name: The string that its decorator must carry; any where empty.
        config: YAML or JSON mapping of keyword arguments; none where empty.
        state_dict_key: Key of the checkpoint, as `load_state_dict` takes it.
        num_classes: Handed to the architecture where it is not 0 and its function takes `num_classes`.
        component: Name of the component that it is, for what errors say to type.
    """

    checkpoint: Path
    architecture: Path
    class_name: str = ""
    config: str = ""
    state_dict_key: str = ""
    num_classes: int = 0
    component: str = "model"


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


def load_network(source: PytorchSource) -> torch.nn.Module:
    """Return the network with its weights, in evaluation mode.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, INVALID_ARCHITECTURE, INVALID_SPEC or WEIGHTS_MISMATCH.
    """
    network = build_network(
        source.architecture, class_name=source.class_name, config=source.config, num_classes=source.num_classes
    )
    weights = load_state_dict(
        source.checkpoint, source.state_dict_key, expected=network.state_dict(), component=source.component
    )
    load_weights(network, weights)
    return network.eval().requires_grad_(requires_grad=False)


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
