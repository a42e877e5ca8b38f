"""A resolved template meets the version that it will read: gaps are filled from the version, and the two must fit.

The template service resolves, and the service that has read the version completes: no version is read twice.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from lathe.registry.v1.model_service_pb2 import ModelFormat, ModelVersion
from lathe.template.v1.template_service_pb2 import (
    VALUE_SOURCE_MODEL_VERSION,
    Component,
    Provenance,
    ResolvedTemplate,
    Template,
    ValueSource,
)

from engines.formats import CONVERTIBLE, FORMATS
from engines.formats.protocol import Format
from services.platform.errors import failed_precondition, invalid_argument
from services.platform.words import word

RESOLVED = "overrides.values"
"""Where a request can mend what a resolved template lacks."""


def complete(resolved: ResolvedTemplate, version: ModelVersion) -> None:
    """Fill the gaps that a version fills, and refuse a version that the template cannot read.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION if the version has another format.
    """
    fill(resolved, version)
    check_fits(resolved.template, version)


def format_of(template: Template, inside: str = RESOLVED) -> Format:
    """Return the source format of a template; `inside` is where the request holds it.

    Raises:
        LatheError: INVALID_ARGUMENT for one that is not converted.
    """
    name = word(ModelFormat, template.source_format)
    if name not in CONVERTIBLE:
        raise invalid_argument(
            f"{inside}.source_format", f"{name} cannot be converted; these formats can: {', '.join(CONVERTIBLE)}"
        )
    return FORMATS[name]


def fill(resolved: ResolvedTemplate, version: ModelVersion) -> None:
    """Take architecture and source file of each component from the version if the template names none."""
    source_format = format_of(resolved.template)
    models = source_format.model_files(file.path for file in version.files)
    for component in resolved.template.components:
        if source_format.weights_only and not component.architecture and version.architecture:
            component.architecture = version.architecture
            _note(resolved, component, "architecture")
        if not component.source_file and not source_format.main_files and len(models) == 1:
            component.source_file = models[0]
            _note(resolved, component, "source_file")


def check_fits(template: Template, version: ModelVersion) -> None:
    """Refuse a full template that does not fit the version; raises as `complete`."""
    if version.format != template.source_format:
        raise failed_precondition(
            "SOURCE_FORMAT_MISMATCH",
            f"the template takes {word(ModelFormat, template.source_format)}, but {version.name} is "
            f"{word(ModelFormat, version.format)}; choose a template for that format",
            subject=version.name,
        )
    source_format = format_of(template)
    check_inputs_declared(template)
    for component in template.components:
        path = f"{RESOLVED}.components.{component.name}"
        if source_format.weights_only and not component.architecture:
            raise invalid_argument(
                f"{path}.architecture", f"neither the template nor {version.name} names an architecture"
            )
        _check_source_file(component, source_format, version, path)


def check_inputs_declared(template: Template) -> None:
    """Refuse components without inputs if their source does not state any; raises INVALID_ARGUMENT."""
    source_format = format_of(template)
    for component in template.components:
        if source_format.weights_only and not component.inputs:
            raise invalid_argument(
                f"{RESOLVED}.components.{component.name}.inputs",
                f"a {source_format.name} source does not state its inputs: give their names and shapes, "
                "such as [{name: image, shape: [1, 3, 224, 224]}]",
            )


def as_values(message: Message) -> dict[str, Any]:
    """Return the fields of a message as JSON values, unset ones included."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def provenance(path: str, value: object, source: ValueSource.ValueType) -> Provenance:
    """Return the entry that says where a value comes from."""
    return Provenance(path=path, value_json=json.dumps(value, ensure_ascii=False), source=source)


def _note(resolved: ResolvedTemplate, component: Component, field: str) -> None:
    path = f"components.{component.name}.{field}"
    entries = [entry for entry in resolved.provenance if entry.path != path]
    entries.append(provenance(path, getattr(component, field), VALUE_SOURCE_MODEL_VERSION))
    del resolved.provenance[:]
    resolved.provenance.extend(sorted(entries, key=lambda entry: entry.path))


def _check_source_file(component: Component, source_format: Format, version: ModelVersion, path: str) -> None:
    """Refuse a component whose file, or folder if the model is one, the version does not have."""
    paths = [file.path for file in version.files]
    named = component.source_file
    if source_format.main_files:
        fits = not named or any(file.startswith(f"{named.rstrip('/')}/") for file in paths)
    else:
        fits = named in paths
    if not fits:
        found = ", ".join(paths[:10])
        raise invalid_argument(f"{path}.source_file", f"{version.name} has no file '{named}'; it has: {found}")
