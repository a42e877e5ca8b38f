"""Rules for templates that the proto cannot state: they need the device catalog, or several fields."""

from __future__ import annotations

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import Component, Template
from lathe.type.v1.precision_pb2 import PRECISION_FP32, PRECISION_UNSPECIFIED, Precision

from engines.runtimes.targets import check_forms, check_options
from engines.spec import template as engine_template
from engines.spec.targets import conversion_target
from services.platform.errors import engine_rules, invalid_argument
from services.platform.words import to_values, word
from services.siblings.resolution import RESOLVED, check_fits, check_inputs_declared, format_of

MAX_BYTES = 1 << 20
"""A resolved template holds its values twice, and has to travel in one message of at most 4 MiB."""


def check_template(template: Template, inside: str = "template") -> None:
    """Refuse a template that no conversion could follow; `inside` is where the request holds it.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field.
    """
    if template.ByteSize() > MAX_BYTES:
        raise invalid_argument(
            inside, f"the template has {template.ByteSize()} bytes; at most {MAX_BYTES} are allowed; shorten its lists"
        )
    _check_target(template, inside)
    tasks = [taxonomy.task for taxonomy in template.taxonomies]
    if len(set(tasks)) != len(tasks):
        raise invalid_argument(
            f"{inside}.taxonomies", "each classification task has one list of classes, but a name is repeated"
        )
    components = [_checked(component, f"{inside}.components.{component.name}") for component in template.components]
    with engine_rules(inside):
        check_options(template.runtime, template.runtime_options, components)


def check_complete(template: Template, version: ModelVersion | None) -> None:
    """Refuse a resolved template that leaves open what a task needs, or that does not fit the version.

    Raises:
        LatheError: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION if the version has another format.
    """
    check_template(template, RESOLVED)
    if version is not None:
        check_fits(template, version)
    check_inputs_declared(template)


def _check_target(template: Template, inside: str) -> None:
    source_format = format_of(template, inside)
    precision = PRECISION_FP32 if template.precision == PRECISION_UNSPECIFIED else template.precision
    with engine_rules(inside):
        check_forms(template.device, template.runtime, source_format.name, source_format.forms)
        conversion_target(template.device, template.runtime, word(Precision, precision))


def _checked(component: Component, path: str) -> engine_template.Component:
    with engine_rules(path):
        found = engine_template.Component.model_validate(to_values(component))
        found.check()
    return found
