"""The paths of TemplateOverrides and the template values that they replace. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from lathe.template.v1.template_service_pb2 import Component, Template, TemplateOverrides

from services.platform.errors import LatheError, invalid_argument

__all__ = ["OVERRIDABLE", "leaves", "named_only", "named_paths", "override"]

OVERRIDABLE = (
    "repo",
    "version",
    "method",
    "error_threshold",
    "source_format",
    "device",
    "runtime",
    "precision",
    "taxonomies",
    "args",
    "runtime_options",
)
"""Fields of a template that a task may replace whole; those of `components` and `execution` one by one."""

COMPONENT_FIELDS = tuple(field.name for field in Component.DESCRIPTOR.fields if field.name != "name")


def named_paths(overrides: TemplateOverrides) -> Sequence[str]:
    """Return the paths of the values that count: those that are named, or all that are set if none is named."""
    return list(overrides.paths) or [path for path, _, _ in leaves(overrides.values, only_set=True)]


def named_only(overrides: TemplateOverrides) -> TemplateOverrides:
    """Return overrides that mean the same, without the values that no path names."""
    kept = TemplateOverrides(paths=overrides.paths)
    paths = named_paths(overrides)
    for component in overrides.values.components:
        if any(path.rpartition(".")[0] == f"components.{component.name}" for path in paths):
            kept.values.components.add(name=component.name)
    for path in paths:
        if _holds(kept.values, path):
            override(kept.values, overrides.values, path)
    return kept


def leaves(template: Template, *, only_set: bool) -> Iterator[tuple[str, Message, FieldDescriptor]]:
    """Yield (path, message that holds the field, field) for every value that can be overridden."""

    def wanted(message: Message, field: FieldDescriptor) -> bool:
        return not only_set or field in {present for present, _ in message.ListFields()}

    top = Template.DESCRIPTOR.fields_by_name
    for name in OVERRIDABLE:
        if wanted(template, top[name]):
            yield name, template, top[name]
    for component in template.components:
        for name in COMPONENT_FIELDS:
            if wanted(component, field := Component.DESCRIPTOR.fields_by_name[name]):
                yield f"components.{component.name}.{name}", component, field
    for field in template.execution.DESCRIPTOR.fields:
        if wanted(template.execution, field):
            yield f"execution.{field.name}", template.execution, field


def override(template: Template, values: Template, path: str) -> None:
    """Replace the value of a path by that of `values`; a path without a value clears it.

    Raises:
        LatheError: INVALID_ARGUMENT for a path that names nothing in the template.
    """
    target, field = _locate(template, path)
    target.ClearField(field)
    if not _holds(values, path):  # the default applies
        return
    source, _ = _locate(values, path)
    patch = type(source)()
    for present, value in source.ListFields():
        if present.name != field:
            continue
        if present.is_repeated or present.message_type is not None:
            getattr(patch, field).MergeFrom(value)
        else:
            setattr(patch, field, value)
    target.MergeFrom(patch)


def _holds(template: Template, path: str) -> bool:
    """Return whether the template has a place for the path; the path of a component that it lacks has none."""
    try:
        _locate(template, path)
    except LatheError:
        return False
    return True


def _locate(template: Template, path: str) -> tuple[Message, str]:
    """Return the message that holds the field of a path, and the field's name."""
    head, _, rest = path.partition(".")
    if head in OVERRIDABLE and not rest:
        return template, head
    if head == "execution" and rest in template.execution.DESCRIPTOR.fields_by_name:
        return template.execution, rest
    name, _, field = rest.rpartition(".")
    if head == "components" and field in COMPONENT_FIELDS:
        for component in template.components:
            if component.name == name:
                return component, field
        names = ", ".join(component.name for component in template.components)
        raise invalid_argument("overrides", f"no component is named '{name}' in '{path}'; the template has: {names}")
    allowed = ", ".join((*OVERRIDABLE, "execution.<field>", "components.<name>.<field>"))
    raise invalid_argument("overrides.paths", f"'{path}' names nothing that can be overridden; allowed are: {allowed}")
