"""Compares what a component declares of its inputs with what its graph takes."""

from __future__ import annotations

from engines.failures import EngineFailure
from engines.formats.source import network_dtype
from engines.spec.request import Component, ComponentInput, invalid
from engines.tensors.signature import NO_BATCH, OPEN_EXTENT, Signature, TensorSpec, format_extents, format_shape


def check_declared(component: Component, signature: Signature) -> None:
    """Refuse a component whose inputs or outputs are not those of its graph.

    Raises:
        EngineFailure: INVALID_SPEC naming the input, what is declared and what the graph has: another number of inputs,
            other names, another dtype or number of axes, an extent that is fixed in the graph and may vary, or differs.
    """
    graph = {spec.name: spec for spec in signature.inputs}
    declared = [given.name for given in component.inputs]
    if sorted(declared) != sorted(graph):
        raise invalid(
            f"Component '{component.name}' declares the inputs {', '.join(declared)}; the graph has "
            f"{', '.join(graph)}.",
            "Declare each input of the graph once, under its name there.",
        )
    outputs = tuple(spec.name for spec in signature.outputs)
    if component.output_names and component.output_names != outputs:
        raise invalid(
            f"Component '{component.name}' names other outputs than the graph's: {', '.join(outputs)}.",
            "Name the graph's outputs in their order, or none.",
        )
    for given in component.inputs:
        spec = graph[given.name]
        if network_dtype(given) != spec.dtype:
            raise invalid(
                f"Input '{given.name}' is declared as {given.dtype}; the graph takes {spec.dtype}.",
                f"Declare it as {spec.dtype}.",
            )
        if spec.known:
            _check_shape(given, spec)
        axis = given.batch_axis or 0
        if component.largest_batch > 1 and spec.max and axis != NO_BATCH and axis not in spec.open_axes:
            raise invalid(
                f"The batch of input '{given.name}', axis {axis}, is fixed at {spec.max[axis]} in the graph.",
                "Set max_batch to 1, export the graph with a dynamic batch, or say which axis is the batch (batch_axis "
                "in the template, batch=1 in tensor information).",
            )


def _check_shape(given: ComponentInput, spec: TensorSpec) -> None:
    low, high = given.min_shape or given.shape, given.max_shape or given.shape
    if len(low) != len(spec.max):
        raise _differs(given, spec, f"it has {len(spec.max)} axes and not {len(low)}")
    for axis, (least, most, fixed) in enumerate(zip(low, high, spec.max, strict=True)):
        if fixed == OPEN_EXTENT or least == most == fixed:
            continue
        varies = f" and cannot vary from {least} to {most}" if least != most else ""
        why = f"its axis {axis} is fixed at {fixed}{varies}"
        raise _differs(given, spec, why)


def _differs(given: ComponentInput, spec: TensorSpec, why: str) -> EngineFailure:
    ends = [format_shape(shape) for shape in (given.min_shape, given.max_shape) if shape]
    takes = format_extents(spec.min, spec.max, spec.axis_names)
    return invalid(
        f"Input '{given.name}' is declared with the shape {' to '.join(ends) or format_shape(given.shape)}; "
        f"the graph takes {takes}: {why}.",
        "Declare what the graph takes, or export the graph with these axes dynamic.",
    )
