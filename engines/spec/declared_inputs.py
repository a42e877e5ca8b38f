"""Compares the declared inputs of a component with the inputs of its graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from engines.failures import EngineFailure, invalid
from engines.spec.information import apply, names_in
from engines.spec.open_axes import as_stated, settle
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput, network_dtype
from engines.tensors.shapes import OPEN_EXTENT, format_extents, format_shape
from engines.tensors.signature import NO_BATCH, Signature, TensorSpec

FIXED_SIZE = "fixed_size"
"""Metadata of a described graph: what takes images of one size alone."""


def check_declared(component: Component, signature: Signature) -> None:
    """Refuse a component whose inputs or outputs are not those of its graph.

    Raises:
        EngineFailure: INVALID_SPEC naming the input, what is declared and what the graph has: another number of inputs,
            other names, another dtype or number of axes, an extent that differs, or may vary and is fixed in the graph.
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


def only_size(words: str) -> str:
    """Return the sentence about what takes images of one size alone."""
    return f" The {words}, takes images of one size alone."


def check_information(
    text: str,
    component: Component,
    signature: Mapping[str, Any],
    with_default: Collection[str] = (),
    *,
    fixed_inputs: bool = False,
) -> None:
    """Refuse tensor information that does not fit the inputs of a graph, and open axes without an extent.

    Parts of the inputs that the description does not state are not compared.

    Args:
        text: Tensor information; empty if there is none.
        component: The component that the graph is read as; inputs that it declares itself count.
        signature: `lathe.type.v1.TensorSignature` of the graph, as JSON; empty if its description has none, like that
            of TorchScript, which keeps no shapes.
        with_default: Inputs of the graph that are optional and not in its signature. If one of them is declared,
            nothing is compared here; the reader does it.
        fixed_inputs: Whether a component of this format has all the inputs of the graph, under their names.

    Raises:
        EngineFailure: INVALID_SPEC naming the input that does not fit or the axis that is open, and what to type.
    """
    if not {given.name for given in component.inputs}.union(names_in(text)).isdisjoint(with_default):
        return
    graph = Signature.from_dict(signature)
    known = bool(graph.inputs) and all(spec.known for spec in graph.inputs)
    # A component of another format may name inputs by position, or tensors inside the graph.
    described = known and (fixed_inputs or not _chooses(component))
    if described and not component.inputs:
        stated = graph.inputs
        component = as_stated(component, stated) if text.strip() else settle(component, stated, {}).component
    if component.inputs:
        component = apply(text, component)
        if described:
            check_declared(component, replace(graph, inputs=tuple(map(_opened, graph.inputs))))


def _chooses(component: Component) -> bool:
    return bool(component.inputs or component.output_names or component.state_dict_key or component.source_file)


def _opened(spec: TensorSpec) -> TensorSpec:
    """Return the spec with every axis that varies open: only the graph states the bounds."""
    most = tuple(high if low == high else OPEN_EXTENT for low, high in zip(spec.min, spec.max, strict=True))
    return replace(spec, max=most)
