"""Whether tensor information fits the source, as far as the registry's description of it tells."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationSpec
from lathe.registry.v1.model_service_pb2 import GraphDescription, ModelDescription, ModelFormat
from lathe.template.v1.template_service_pb2 import Template

from engines.failures import EngineFailure
from services.common.errors import invalid_argument


def check_fit(spec: OptimizationSpec, template: Template, description: ModelDescription) -> None:
    """Refuse tensor information that cannot fit; where the description tells too little, the task will find out.

    Args:
        spec: The specification.
        template: The full template by which the source is read.
        description: Of the source.

    Raises:
        LatheError: INVALID_ARGUMENT naming the input that does not fit, and both sides.
    """
    from engines.conversion_request import Component
    from engines.stated_inputs import check_information

    if len(template.components) != 1:
        return
    values = MessageToDict(template.components[0], preserving_proto_field_name=True)
    if spec.max_batch:
        values["max_batch"] = spec.max_batch
    component = Component.model_validate(values)
    graph = _graph(description, component.source_file)
    signature = MessageToDict(graph.signature, preserving_proto_field_name=True)
    try:
        check_information(spec.tensor_information, component, ModelFormat.Name(description.format), signature)
    except EngineFailure as failure:
        words = " ".join(part for part in (failure.message, failure.suggested_fix) if part)
        raise invalid_argument("task.spec.tensor_information", words) from None


def _graph(description: ModelDescription, file: str) -> GraphDescription:
    """Return the graph that a component is read from; one that says nothing where that cannot be told."""
    graphs = [graph for graph in description.graphs if graph.path == file] if file else list(description.graphs)
    told = len(graphs) == 1 and _is_default(graphs[0].metadata["signatures"].split(", "))
    return graphs[0] if told else GraphDescription()


def _is_default(signatures: list[str]) -> bool:
    """Return whether the described signature of a SavedModel is the one that is read, whatever inputs are named."""
    return len(signatures) == 1 or "serving_default" in signatures
