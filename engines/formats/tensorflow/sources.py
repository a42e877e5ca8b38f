"""Holds the declared inputs of a component to those of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Mapping

from engines.failures import invalid
from engines.spec.template import Component
from engines.tensors.inputs import batched_network_inputs
from engines.tensors.shapes import OPEN_EXTENT, format_extents
from engines.tensors.signature import TensorSpec

_FIX = "Declare what the graph takes, or export the graph with these axes dynamic."


def network_inputs(component: Component, stated: Mapping[str, TensorSpec]) -> list[TensorSpec]:
    """Return the specs of a component's inputs in the network's dtypes, an axis that varies being left open.

    Args:
        component: The component, its inputs declared.
        stated: What the graph states of its inputs, by name; inputs that it does not state are not checked.

    Raises:
        EngineFailure: INVALID_SPEC saying which declared input the graph does not allow, and how.
    """
    inputs = list(batched_network_inputs(component.inputs, component.largest_batch))
    for spec in inputs:
        if spec.name in stated:
            _check_fit(spec, stated[spec.name])
    return inputs


def _check_fit(spec: TensorSpec, graph: TensorSpec) -> None:
    if graph.dtype != spec.dtype:
        raise invalid(
            f"Input '{spec.name}' is declared as {spec.dtype}; the graph takes {graph.dtype}.",
            f"Declare it as {graph.dtype}.",
        )
    if not graph.known:
        return
    shown = format_extents(graph.min, graph.max, graph.axis_names)
    if len(graph.max) != len(spec.max):
        raise invalid(
            f"Input '{spec.name}' is declared with {len(spec.max)} axes; the graph has {len(graph.max)}: {shown}.", _FIX
        )
    for axis, (low, high) in enumerate(zip(spec.min, spec.max, strict=True)):
        fixed = graph.max[axis]
        if fixed != OPEN_EXTENT and (low, high) != (fixed, fixed):
            said = low if low == high else f"{low} to {high}"
            raise invalid(
                f"Axis {axis} of input '{spec.name}' is declared as {said}; the graph fixes it at {fixed}: {shown}.",
                _FIX,
            )
