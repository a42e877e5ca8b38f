"""Resolve a template into the full specification of a conversion.

Four layers, the first that speaks wins: the caller's overrides, the template, the model version, the defaults.
Pure functions over messages; nothing here reads a database or calls a service.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import (
    VALUE_SOURCE_DEFAULT,
    VALUE_SOURCE_OVERRIDE,
    VALUE_SOURCE_TEMPLATE,
    Provenance,
    ResolvedTemplate,
    Template,
    TemplateOverrides,
    ValueSource,
)
from lathe.type.v1.precision_pb2 import PRECISION_FP32, Precision

from engines.spec.tolerances import TOLERANCES
from services.platform.errors import invalid_argument
from services.platform.messages import MAX_RESOLVED_BYTES
from services.platform.words import word
from services.siblings.overrides import leaves, named_paths, override
from services.siblings.resolution import as_values, fill, provenance


def resolve(template: Template, overrides: TemplateOverrides, version: ModelVersion | None) -> ResolvedTemplate:
    """Return the template with overrides applied and gaps filled, and the source of each value.

    Raises:
        LatheError: INVALID_ARGUMENT for a path that names nothing, or for values that are too large;
            FAILED_PRECONDITION if the version does not fit.
    """
    resolved = Template()
    resolved.CopyFrom(template)
    sources: dict[str, ValueSource.ValueType] = {
        path: VALUE_SOURCE_TEMPLATE for path, _, _ in leaves(resolved, only_set=True)
    }
    for path in named_paths(overrides):
        override(resolved, overrides.values, path)
        sources[path] = VALUE_SOURCE_OVERRIDE
    _fill_defaults(resolved, sources)
    # Each message is written as JSON once, not once per field. It is kept, so that no other takes over its id.
    written: dict[int, tuple[Message, dict[str, Any]]] = {}
    entries: list[Provenance] = []
    for path, message, field in leaves(resolved, only_set=False):
        if path in sources:
            if id(message) not in written:
                written[id(message)] = message, as_values(message)
            entries.append(provenance(path, written[id(message)][1].get(field.name), sources[path]))
    result = ResolvedTemplate(template=resolved, provenance=sorted(entries, key=lambda entry: entry.path))
    if version is not None:
        fill(result, version)
    if (size := result.ByteSize()) > MAX_RESOLVED_BYTES:
        raise invalid_argument(
            "overrides.values",
            f"the resolved template has {size} bytes; at most {MAX_RESOLVED_BYTES} are allowed; shorten its lists",
        )
    return result


def _fill_defaults(resolved: Template, sources: dict[str, ValueSource.ValueType]) -> None:
    def default(path: str, message: Message, field: str, value: Any) -> None:
        if not getattr(message, field):
            setattr(message, field, value)
            sources[path] = VALUE_SOURCE_DEFAULT

    default("precision", resolved, "precision", PRECISION_FP32)
    default("method", resolved, "method", "raw")
    default("repo", resolved, "repo", "default")
    default("version", resolved, "version", "1")
    tolerance = TOLERANCES[word(Precision, resolved.precision)]
    default("error_threshold", resolved, "error_threshold", tolerance.threshold)
    for component in resolved.components:
        default(f"components.{component.name}.max_batch", component, "max_batch", 1)
        for entry in component.inputs:
            entry.dtype = entry.dtype or "float32"
    for field in resolved.execution.DESCRIPTOR.fields:
        sources.setdefault(f"execution.{field.name}", VALUE_SOURCE_DEFAULT)
