"""Reads the model of a component, in any format: one `Source` for the rest of the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engines.failures import EngineFailure, FailureReason, invalid
from engines.formats import format_of
from engines.formats.protocol import ReadJob
from engines.formats.source import Source
from engines.spec.information import apply
from engines.spec.open_axes import Declared, as_stated, settle
from engines.spec.request import ConversionRequest
from engines.spec.source_files import file_inside
from engines.spec.template import Component
from engines.tensors.shapes import Shape
from engines.tensors.signature import TensorSpec
from engines.tensors.user_samples import shapes_in

Reader = Callable[[ReadJob], Source]


def check_sources(request: ConversionRequest) -> None:
    """Refuse a request whose components have no source, before anything is read.

    Raises:
        EngineFailure: INVALID_SPEC for a format that cannot be read, a component whose file or folder is not there or
            not named among several, or weights without an architecture.
    """
    source_format = format_of(request.template.source_format)
    for component in request.template.components:
        source_format.source_path(component, [entry.path for entry in request.inputs])
        if source_format.weights_only and component.name not in request.architectures:
            raise invalid(f"Component '{component.name}' is a state dict and has no architecture; name one.")


def read_source(job: ReadJob) -> Source:
    """Read a component by its format, as `Format.read`."""
    return format_of(job.request.template.source_format).read(job)


def with_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Declared:
    """Return the component with its inputs declared: by tensor information, by the template, else by its source.

    An axis that a graph leaves open gets its extent as `settle` says.

    Raises:
        EngineFailure: INVALID_SPEC naming the inputs to declare if nothing gives them shapes; whatever the reader
            finds wrong.
    """
    source_format, text = format_of(request.template.source_format), request.tensor_information
    if text.strip() and len(request.template.components) > 1:
        names = ", ".join(part.name for part in request.template.components)
        raise invalid(
            f"Tensor information is about one network, and the model has several: {names}.",
            "Declare the inputs of each in a template with these components, or leave the text out.",
        )
    if text.strip():
        component = apply(text, with_stated_inputs(request, component, workdir))
    if component.inputs:
        return Declared(source_format.in_order(request, component, workdir))
    inputs = source_format.graph_inputs(request, component, workdir)
    if inputs is None:
        return source_format.inputs(request, component, workdir)
    return settle(component, inputs, _sample_shapes(request, component, workdir, inputs))


def with_stated_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Component:
    """Return the component with the inputs that its source states, for a caller who declares their shapes.

    A component that declares inputs is returned as it is, and so is one whose source states no shapes, as a
    TorchScript archive or a graph of unknown rank.

    Raises:
        EngineFailure: whatever the reader finds wrong.
    """
    if component.inputs:
        return component
    source_format = format_of(request.template.source_format)
    inputs = source_format.graph_inputs(request, component, workdir)
    if inputs is not None:
        return as_stated(component, inputs) if all(spec.known for spec in inputs) else component
    try:
        return source_format.inputs(request, component, workdir).component
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
    """Return the request with what its source says of itself: its outputs, and its components.

    A template of one component that names no source file is the whole directory; if that is several graphs, as those of
    a pipeline, or encoder and decoder, each becomes a component with the template's settings.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL for the directory.
    """
    template = format_of(request.template.source_format).stated(request, workdir)
    request = request.model_copy(update={"template": template})
    only = template.components[0]
    if len(template.components) > 1 or only.source_file or only.inputs:
        return request
    found = format_of(template.source_format).components(request, workdir)
    return request.model_copy(update={"template": template.model_copy(update={"components": found})})
