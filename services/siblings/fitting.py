"""Checks that the inputs of a task are declared and fit its source, as far as the registry's description tells."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from lathe.internal.v1.conversion_pb2 import ConversionOutcome
from lathe.internal.v1.optimization_pb2 import OptimizationOutcome
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome
from lathe.internal.v1.registry_service_pb2 import TaskSource
from lathe.registry.v1.model_service_pb2 import GraphDescription, ModelDescription, ModelFormat
from lathe.template.v1.template_service_pb2 import Template

from engines.failures import EngineFailure
from engines.formats import FORMATS
from services.platform.errors import LatheError, invalid_argument
from services.platform.words import number, to_values, word
from services.siblings.resolution import format_of

FIELD = "task.spec.tensor_information"


def formats_to_describe(text: str, *, has_samples: bool) -> Sequence[ModelFormat.ValueType]:
    """Return the formats whose description `check_inputs` needs, before it is known which one the source has."""
    if text.strip():
        return ModelFormat.values()
    return () if has_samples else [number(ModelFormat, each.name) for each in FORMATS.values() if each.open_axes]


def description_of(
    message: TaskSource | ConversionOutcome | QuantizationOutcome | OptimizationOutcome,
) -> ModelDescription | None:
    """Return the description that a message carries, if it does."""
    return message.description if message.HasField("description") else None


def check_inputs(
    template: Template,
    description: ModelDescription | None,
    text: str,
    *,
    has_samples: bool,
    max_batch: int = 0,
) -> None:
    """Refuse inputs that nothing declares, and tensor information that cannot fit the source.

    If the description says too little, the task will find out.

    Args:
        template: The full template by which the source is read.
        description: Of the source, for the formats of `formats_to_describe`; None for others.
        text: Tensor information; empty if there is none.
        has_samples: Whether the user gives samples, whose shapes say what the source leaves open.
        max_batch: Largest batch of the task; the template's if 0.

    Raises:
        LatheError: INVALID_ARGUMENT naming the line and column that cannot be read, the input that does not fit, or the
            axis that is open, and what to type.
    """
    _check_text(text)
    if text.strip() and len(template.components) > 1:
        names = ", ".join(component.name for component in template.components)
        raise invalid_argument(
            FIELD,
            f"it describes one network, but the template has several ({names}): declare their inputs in the template",
        )
    undeclared = format_of(template).open_axes and not has_samples
    undeclared = undeclared and not any(component.inputs for component in template.components)
    if len(template.components) == 1 and description is not None and (text.strip() or undeclared):
        _check_fit(text, template, description, max_batch=max_batch)


def _check_fit(text: str, template: Template, description: ModelDescription, *, max_batch: int) -> None:
    from engines.formats.onnx.description import WITH_DEFAULT
    from engines.spec.declared_inputs import FIXED_SIZE, check_information, only_size
    from engines.spec.template import Component

    values = to_values(template.components[0])
    if max_batch:
        values["max_batch"] = max_batch
    component = Component.model_validate(values)
    graph = _graph(description, component.source_file)
    signature = MessageToDict(graph.signature, preserving_proto_field_name=True)
    try:
        with_default = graph.metadata[WITH_DEFAULT].split(", ") if WITH_DEFAULT in graph.metadata else []
        fixed_inputs = FORMATS[word(ModelFormat, description.format)].fixed_inputs
        check_information(text, component, signature, with_default, fixed_inputs=fixed_inputs)
    except EngineFailure as failure:
        if words := graph.metadata.get(FIXED_SIZE, ""):
            failure.suggested_fix += only_size(words)
        raise _refusal(failure) from None


def _check_text(text: str) -> None:
    from engines.tensors.text import parse

    if not text.strip():
        return
    try:
        parse(text)
    except EngineFailure as failure:
        raise _refusal(failure) from None


def _refusal(failure: EngineFailure) -> LatheError:
    return invalid_argument(FIELD, " ".join(part for part in (failure.message, failure.suggested_fix) if part))


def _graph(description: ModelDescription, file: str) -> GraphDescription:
    """Return the graph that a component is read from; one that says nothing if that cannot be told."""
    graphs = [graph for graph in description.graphs if graph.path == file] if file else list(description.graphs)
    told = len(graphs) == 1 and _is_default(graphs[0].metadata["signatures"].split(", "))
    return graphs[0] if told else GraphDescription()


def _is_default(signatures: list[str]) -> bool:
    """Return whether the described signature of a SavedModel is the one that is read, whatever inputs are named."""
    return len(signatures) == 1 or "serving_default" in signatures
