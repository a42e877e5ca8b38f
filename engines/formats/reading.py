"""Reads the model file of a component into ONNX, whatever its format: one `Source` for the rest of the conversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, invalid
from engines.formats.exported_program.reader import exported_program_inputs, read_exported_program
from engines.formats.huggingface.reader import huggingface_components, huggingface_inputs, read_huggingface
from engines.formats.onnx.reader import read_onnx
from engines.formats.pytorch.reader import PytorchSource, load_network
from engines.formats.source import Source
from engines.formats.tensorflow.sources import read_frozen_graph, read_saved_model, tensorflow_inputs
from engines.formats.torch_export.module_source import module_source
from engines.formats.torchscript.reader import in_order_of_forward, read_torchscript, torchscript_inputs
from engines.graph.hygiene import load_model
from engines.graph.interface import refuse_empty_inputs, signature_of
from engines.graph.repair import repair
from engines.spec.information import apply, names_in
from engines.spec.open_axes import Declared, as_stated, settle
from engines.spec.request import ConversionRequest
from engines.spec.source_files import file_inside, folder_inside
from engines.spec.template import Component
from engines.tensors import Array
from engines.tensors.shapes import Shape
from engines.tensors.signature import TensorSpec
from engines.tensors.user_samples import shapes_in

Reader = Callable[[ConversionRequest, Component, Path, Sequence[Array], Path], Source]
"""Takes the request, the component, the work directory, one array per argument, and where the ONNX file goes."""

InputsOf = Callable[[ConversionRequest, Component, Path], Declared]
"""Returns a component with the inputs that its source states, every axis with its extents."""

GraphInputsOf = Callable[[ConversionRequest, Component, Path], Sequence[TensorSpec]]
"""Returns the inputs that a graph states, which may leave axes open."""


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


def with_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Declared:
    """Return the component with its inputs declared: by tensor information, by the template, else by its source.

    Inputs of a TorchScript archive that go by the names of arguments stand in the order of these afterwards. An axis
    that a graph leaves open gets its extent as `settle` says.

    Raises:
        EngineFailure: INVALID_SPEC naming the inputs to declare if nothing gives them shapes; whatever the reader
            finds wrong.
    """
    source_format, text = request.template.source_format, request.tensor_information
    if text.strip() and len(request.template.components) > 1:
        names = ", ".join(part.name for part in request.template.components)
        raise invalid(
            f"Tensor information is about one network, and the model has several: {names}.",
            "Declare the inputs of each in a template with these components, or leave the text out.",
        )
    if text.strip():
        component = apply(text, with_stated_inputs(request, component, workdir))
    if component.inputs:
        by_name = source_format == "TORCHSCRIPT" and any(given.place for given in component.inputs)
        return Declared(in_order_of_forward(request, component, workdir) if by_name else component)
    if source_format in _GRAPH_INPUTS:
        inputs = _GRAPH_INPUTS[source_format](request, component, workdir)
        return settle(component, inputs, _sample_shapes(request, component, workdir, inputs))
    stated = _INPUTS.get(source_format)
    return Declared(component) if stated is None else stated(request, component, workdir)


def with_stated_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Component:
    """Return the component with the inputs that its source states, for a caller who declares their shapes himself.

    A component that declares inputs is returned as it is, and so is one whose source states no shapes, as a
    TorchScript archive or a graph of unknown rank.

    Raises:
        EngineFailure: whatever the reader finds wrong.
    """
    source_format = request.template.source_format
    if component.inputs:
        return component
    if source_format in _GRAPH_INPUTS:
        inputs = _GRAPH_INPUTS[source_format](request, component, workdir)
        return as_stated(component, inputs) if all(spec.known for spec in inputs) else component
    try:
        return with_inputs(request.model_copy(update={"tensor_information": ""}), component, workdir).component
    except EngineFailure as failure:
        if failure.reason is not FailureReason.INVALID_SPEC:
            raise
        return component


def _sample_shapes(
    request: ConversionRequest, component: Component, workdir: Path, inputs: Sequence[TensorSpec]
) -> dict[str, Shape]:
    if not request.samples_path:
        return {}
    names = [spec.name for spec in inputs]
    path = file_inside(workdir, request.samples_path)
    return shapes_in(path, component.name, names, only=request.is_first(component))


def with_components(request: ConversionRequest, workdir: Path) -> ConversionRequest:
    """Return the request with the components of its source: those of a pipeline, encoder and decoder, or as it is.

    A template of one component that names no source file stands for the whole of a Hugging Face directory; where that
    is several graphs, each becomes a component with the template's settings.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL for the directory.
    """
    template = request.template
    only = template.components[0]
    if template.source_format != "HUGGINGFACE" or len(template.components) > 1 or only.source_file or only.inputs:
        return request
    found = huggingface_components(folder_inside(workdir, request.source_of(only)), only)
    return request.model_copy(update={"template": template.model_copy(update={"components": found})})


def _read_pth(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    architecture = request.architectures[component.name]
    source = PytorchSource(
        checkpoint=file_inside(workdir, request.source_of(component)),
        architecture=file_inside(workdir, architecture.source_path),
        class_name=architecture.class_name,
        config=architecture.config,
        state_dict_key=component.state_dict_key,
        num_classes=component.num_classes,
        component=component.name,
    )
    network = load_network(source)
    return module_source(network, component, arguments, onnx_path, architecture=source.architecture)


def _onnx_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
    model = load_model(file_inside(workdir, request.source_of(component)), weights=False)
    refuse_empty_inputs(model)
    repair(model, names_in(request.tensor_information))
    return signature_of(model).inputs


_READERS: dict[str, Reader] = {
    "PTH": _read_pth,
    "ONNX": read_onnx,
    "TORCHSCRIPT": read_torchscript,
    "EXPORTED_PROGRAM": read_exported_program,
    "HUGGINGFACE": read_huggingface,
    "SAVED_MODEL": read_saved_model,
    "FROZEN_GRAPH": read_frozen_graph,
}
_GRAPH_INPUTS: dict[str, GraphInputsOf] = {
    "ONNX": _onnx_inputs,
    "SAVED_MODEL": tensorflow_inputs,
    "FROZEN_GRAPH": tensorflow_inputs,
}
_INPUTS: dict[str, InputsOf] = {
    "TORCHSCRIPT": torchscript_inputs,
    "EXPORTED_PROGRAM": exported_program_inputs,
    "HUGGINGFACE": huggingface_inputs,
}
