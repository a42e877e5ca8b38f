"""Makes a source of a torch module that a reader loaded: exported to ONNX, and run as it was for the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.pytorch.reader import export_onnx, run_module
from engines.formats.pytorch.weights import check_numbers
from engines.formats.source import Source
from engines.formats.torch_export.inference_form import inference_form
from engines.formats.torch_export.nesting import nested_network
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.inputs import network_inputs

if TYPE_CHECKING:
    import torch


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
    export = export_onnx(
        nested_network(network, component),
        network_inputs(component.inputs),
        arguments,
        onnx_path,
        max_batch=component.largest_batch,
        output_names=component.output_names or output_names,
        architecture=architecture,
    )
    return Source(
        export.onnx_path,
        export.signature,
        f"torch's {export.exporter} exporter",
        lambda values: run_module(export.module, values),
        export.module,
        {given.name: given.preprocessing for given in component.inputs if given.preprocessing.active},
        export.constants,
        companions or {},
        (*notes, *_warnings(export.constants)),
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
