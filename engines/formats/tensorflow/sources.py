"""Components of TensorFlow's formats as sources of a conversion, and the inputs that they have where none are said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engines.failures import invalid
from engines.formats.frozen_graph import reader as frozen_graph
from engines.formats.saved_model import reader as saved_model
from engines.formats.saved_model.files import inspect_saved_model
from engines.formats.source import Source
from engines.formats.tensorflow.graph import tensor_spec
from engines.formats.tensorflow.graph_ends import find_ends
from engines.formats.tensorflow.onnx import apart
from engines.spec.request import ConversionRequest
from engines.spec.source_files import file_inside, folder_inside
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.inputs import network_dtype, package_inputs
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.shapes import OPEN_EXTENT, format_extents
from engines.tensors.signature import TensorSpec

_FIX = "Declare what the graph takes, or export the graph with these axes dynamic."


def read_saved_model(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    """Read a SavedModel: the signature that the component's `state_dict_key` names, else `serving_default`.

    Raises:
        EngineFailure: As `inspect_saved_model`, `choose_signature` and `read_signature`.
    """
    folder = folder_inside(workdir, request.source_of(component))
    model = inspect_saved_model(folder)
    names = [given.name for given in component.inputs]
    key = saved_model.choose_signature(model, component.state_dict_key, names)
    inputs = _network_inputs(component)
    _check_fit(inputs, {spec.name: spec for spec in model.signatures[key][0]})
    signature, runner = saved_model.read_signature(folder, key, inputs, component.output_names, onnx_path)
    runner(arguments)
    keys = component.output_names or tuple(spec.name for spec in model.signatures[key][1])
    return Source(
        onnx_path,
        signature,
        f"tf2onnx, signature '{key}'",
        runner,
        None,
        _preprocessing(component),
        warnings=tuple(
            f"The output '{output}' has the name of an input; in the package it is '{name}'."
            for output, name in apart(names, keys).items()
            if output != name
        ),
    )


def read_frozen_graph(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    """Read a frozen graph.

    Raises:
        EngineFailure: As `frozen_graph.read_frozen_graph`.
    """
    path = file_inside(workdir, request.source_of(component))
    inputs = _network_inputs(component)
    stated = {spec.name: spec for spec in _placeholders(path, component)}
    _check_fit(inputs, stated)
    signature, runner = frozen_graph.read_frozen_graph(path, inputs, component.output_names, onnx_path)
    runner(arguments)
    return Source(onnx_path, signature, "tf2onnx", runner, None, _preprocessing(component))


def tensorflow_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
    """Return the inputs that a component's SavedModel or frozen graph has.

    Raises:
        EngineFailure: As the readers.
    """
    if request.template.source_format == "SAVED_MODEL":
        model = inspect_saved_model(folder_inside(workdir, request.source_of(component)))
        return model.signatures[saved_model.choose_signature(model, component.state_dict_key)][0]
    return _placeholders(file_inside(workdir, request.source_of(component)), component)


def _placeholders(path: Path, component: Component) -> tuple[TensorSpec, ...]:
    ends = find_ends(frozen_graph.inspect(path), [given.name for given in component.inputs], component.output_names)
    names = [given.name for given in component.inputs] or [node.name for node in ends.inputs]
    return tuple(
        tensor_spec(name, node.dtype, node.shape) for name, node in zip(names, ends.inputs, strict=True) if node.dtype
    )


def _network_inputs(component: Component) -> list[TensorSpec]:
    return [
        replace(spec, dtype=network_dtype(given))
        for spec, given in zip(package_inputs(component.inputs, component.largest_batch), component.inputs, strict=True)
    ]


def _preprocessing(component: Component) -> dict[str, Preprocessing]:
    return {given.name: given.preprocessing for given in component.inputs if given.preprocessing.active}


def _check_fit(inputs: Sequence[TensorSpec], stated: dict[str, TensorSpec]) -> None:
    """Refuse declared inputs that the graph's own do not allow.

    Raises:
        EngineFailure: INVALID_SPEC saying which input and how.
    """
    for spec in inputs:
        graph = stated.get(spec.name)
        if graph is None:
            continue
        if graph.dtype != spec.dtype:
            raise invalid(
                f"Input '{spec.name}' is declared as {spec.dtype}; the graph takes {graph.dtype}.",
                f"Declare it as {graph.dtype}.",
            )
        if not graph.known:
            continue
        if len(graph.max) != len(spec.max):
            raise invalid(
                f"Input '{spec.name}' is declared with {len(spec.max)} axes; the graph has {len(graph.max)}: "
                f"{_shown(graph)}.",
                _FIX,
            )
        for axis, (low, high) in enumerate(zip(spec.min, spec.max, strict=True)):
            fixed = graph.max[axis]
            if fixed != OPEN_EXTENT and (low, high) != (fixed, fixed):
                said = low if low == high else f"{low} to {high}"
                raise invalid(
                    f"Axis {axis} of input '{spec.name}' is declared as {said}; the graph fixes it at {fixed}: "
                    f"{_shown(graph)}.",
                    _FIX,
                )


def _shown(spec: TensorSpec) -> str:
    return format_extents(spec.min, spec.max, spec.axis_names)
