"""Reads the model file of a component into ONNX, whatever its format: one `Source` for the rest of the conversion."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from engines.backends.base import Array
from engines.backends.onnxruntime import OnnxRuntimeSession
from engines.conversion_request import Component, ComponentInput, ConversionRequest, Preprocessing, inside, invalid
from engines.frontends.exported_program import exported_program_inputs, read_exported_program
from engines.frontends.module_source import module_source
from engines.frontends.pytorch import PytorchSource, load_network
from engines.frontends.torchscript import read_torchscript, torchscript_inputs
from engines.graph.hygiene import check, external_files, load_model
from engines.graph.interface import signature_of
from engines.graph.versions import lower_versions
from engines.signature import OPEN_EXTENT, Signature
from engines.source import Source, network_dtype

log = logging.getLogger(__name__)

Reader = Callable[[ConversionRequest, Component, Path, Sequence[Array], Path], Source]
"""Takes the request, the component, the work directory, one array per argument, and where the ONNX file goes."""

InputsOf = Callable[[ConversionRequest, Component, Path], Component]
"""Returns a component with the inputs that its source states."""


def read_source(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    """Write a component as ONNX and return it with its original.

    Args:
        request: The conversion.
        component: Which component, its inputs declared.
        workdir: Where the request's files lie.
        arguments: One array per argument of the network, preprocessed.
        onnx_path: Where the ONNX file goes.

    Raises:
        EngineFailure: INVALID_SPEC for a format that has no reader here; whatever the reader finds wrong.
    """
    reader = _READERS.get(request.template.source_format)
    if reader is None:
        raise invalid(
            f"Sources of the format {request.template.source_format} cannot be read for "
            f"{request.template.device} in this release; these can: {', '.join(_READERS)}."
        )
    return reader(request, component, workdir, arguments, onnx_path)


def with_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Component:
    """Return the component with its inputs declared: those that the source itself states where the template names none.

    A symbolic extent of an ONNX graph becomes 1; declare the input in the template where the graph needs another.

    Raises:
        EngineFailure: INVALID_SPEC naming the inputs to declare where the source states no shapes; whatever the reader
            finds wrong.
    """
    stated = _INPUTS.get(request.template.source_format)
    return component if component.inputs or stated is None else stated(request, component, workdir)


def _read_pth(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    architecture = request.architectures[component.name]
    source = PytorchSource(
        checkpoint=inside(workdir, request.source_of(component)),
        architecture=inside(workdir, architecture.source_path),
        class_name=architecture.class_name,
        config=architecture.config,
        state_dict_key=component.state_dict_key,
        num_classes=component.num_classes,
    )
    network = load_network(source)
    return module_source(network, component, arguments, onnx_path, architecture=source.architecture)


def _read_onnx(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    original = inside(workdir, request.source_of(component))
    model = load_model(original, weights=False)
    signature = signature_of(model)
    _check_interface(component, signature)
    lowered = lower_versions(model)
    check(model)
    if lowered:
        log.info(
            "%s states newer versions than ONNX Runtime reads; they are lowered, its operators the same.", original.name
        )
        onnx_path.write_bytes(model.SerializeToString())
    else:
        shutil.copyfile(original, onnx_path)
    for name in external_files(model, original):
        (onnx_path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original.parent / name, onnx_path.parent / name)
    reference = OnnxRuntimeSession(onnx_path, len(os.sched_getaffinity(0)), optimise=False)
    ordered = [next(spec for spec in signature.inputs if spec.name == given.name) for given in component.inputs]

    def runner(values: Sequence[Array]) -> list[Array]:
        feed = {spec.name: value for spec, value in zip(ordered, values, strict=True)}
        return list(reference.run(feed).values())

    runner(arguments)
    interface = Signature(tuple(ordered), signature.outputs)
    return Source(onnx_path, interface, "the ONNX file itself", runner, None, _preprocessing(component))


def _onnx_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Component:
    signature = signature_of(load_model(inside(workdir, request.source_of(component)), weights=False))
    inputs = tuple(ComponentInput(name=spec.name, shape=spec.opt, dtype=spec.dtype) for spec in signature.inputs)
    return component.model_copy(update={"inputs": inputs})


def _check_interface(component: Component, signature: Signature) -> None:
    graph = {spec.name: spec for spec in signature.inputs}
    declared = [given.name for given in component.inputs]
    if sorted(declared) != sorted(graph):
        raise invalid(
            f"Component '{component.name}' declares the inputs {', '.join(declared)}; the graph has {', '.join(graph)}."
        )
    outputs = tuple(spec.name for spec in signature.outputs)
    if component.output_names and component.output_names != outputs:
        raise invalid(f"Component '{component.name}' names other outputs than the graph's: {', '.join(outputs)}.")
    for given in component.inputs:
        spec = graph[given.name]
        if network_dtype(given) != spec.dtype:
            raise invalid(f"Input '{given.name}' is declared as {given.dtype}; the graph takes {spec.dtype}.")
        if component.largest_batch > 1 and spec.max and spec.max[0] != OPEN_EXTENT:
            raise invalid(
                f"The batch of input '{given.name}' is fixed at {spec.max[0]} in the graph; set max_batch to 1, or "
                "export the graph with a dynamic batch."
            )


def _preprocessing(component: Component) -> dict[str, Preprocessing]:
    return {given.name: given.preprocessing for given in component.inputs if given.preprocessing.active}


_READERS: dict[str, Reader] = {
    "PTH": _read_pth,
    "ONNX": _read_onnx,
    "TORCHSCRIPT": read_torchscript,
    "EXPORTED_PROGRAM": read_exported_program,
}
_INPUTS: dict[str, InputsOf] = {
    "ONNX": _onnx_inputs,
    "TORCHSCRIPT": torchscript_inputs,
    "EXPORTED_PROGRAM": exported_program_inputs,
}
