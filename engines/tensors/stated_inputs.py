"""Compares tensor information with what a model's description says of its graph, before anything is run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from engines.spec.request import Component
from engines.tensors.declared_inputs import check_declared
from engines.tensors.information import apply, names_in
from engines.tensors.open_axes import as_stated, settle
from engines.tensors.signature import OPEN_EXTENT, Signature, TensorSpec


def check_information(
    text: str,
    component: Component,
    source_format: str,
    signature: Mapping[str, Any],
    with_default: Collection[str] = (),
) -> None:
    """Refuse a text that does not fit the inputs of a graph, and axes that nothing gives an extent.

    What nobody knows of them is not compared.

    Args:
        text: Tensor information; empty if there is none.
        component: The component that the graph is read as; its own inputs, where it declares some, count.
        source_format: Name of ModelFormat.
        signature: `lathe.type.v1.TensorSignature` of the graph, as JSON; empty where its description has none, as of
            TorchScript, which keeps no shapes.
        with_default: Inputs of the graph that may be left out, and are not in its signature. Nothing is compared if one
            of them is declared: the reader does that.

    Raises:
        EngineFailure: INVALID_SPEC saying which input does not fit, and how, or which axis is open, and what to type.
    """
    if not {given.name for given in component.inputs}.union(names_in(text)).isdisjoint(with_default):
        return
    graph = Signature.from_dict(signature)
    known = bool(graph.inputs) and all(spec.known for spec in graph.inputs)
    # What a component names of a TensorFlow graph may lie inside of it.
    described = known and (source_format == "ONNX" or not _chooses(component))
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
    """Return the spec with axes that vary open: between which bounds, the graph itself will say."""
    most = tuple(high if low == high else OPEN_EXTENT for low, high in zip(spec.min, spec.max, strict=True))
    return replace(spec, max=most)
