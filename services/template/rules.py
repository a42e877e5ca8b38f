"""What makes a template sound: rules that need the device catalog or several fields, which the proto cannot state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import Component, ComponentInput, Template
from lathe.type.v1.precision_pb2 import PRECISION_UNSPECIFIED, Precision

from engines.failures import EngineFailure
from engines.runtimes import builds_from, runtimes
from engines.spec.devices import Device, load_catalog
from engines.tensors.shapes import check_shape
from engines.tensors.signature import NO_BATCH
from services.platform.errors import invalid_argument
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
    for component in template.components:
        _check_component(component, f"{inside}.components.{component.name}")


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
    source_format, devices = format_of(template, inside), load_catalog().devices
    device: Device | None = devices.get(template.device)
    if device is None:
        raise invalid_argument(
            f"{inside}.device",
            f"'{template.device}' is no device of the catalog, which has: {', '.join(devices)}",
            "UNKNOWN_DEVICE",
        )
    runtime = device.buildable_runtimes.get(template.runtime)
    if runtime is None:
        known = "this release has no builder for" if template.runtime in device.runtimes else "it does not run"
        offered = ", ".join(device.buildable_runtimes) or "none"
        raise invalid_argument(
            f"{inside}.runtime",
            f"{template.device}: {known} '{template.runtime}'; runtimes that can be built for it: {offered}",
            "UNKNOWN_RUNTIME",
        )
    if not builds_from(runtime.name, source_format.forms):
        others = ", ".join(name for name in device.buildable_runtimes if builds_from(name, source_format.forms))
        raise invalid_argument(
            f"{inside}.runtime",
            f"'{runtime.name}' builds from a {' or '.join(runtimes()[runtime.name].takes)}, and {source_format.name} "
            f"offers a {' or '.join(sorted(source_format.forms))} only; runtimes that take it: {others}",
            "UNSUITABLE_RUNTIME",
        )
    if template.precision != PRECISION_UNSPECIFIED:
        name = Precision.Name(template.precision)
        if name not in runtime.precisions:
            made = name in runtime.quantized
            raise invalid_argument(
                f"{inside}.precision",
                f"{template.runtime} on {template.device} does not compute in {name}; it offers: "
                f"{', '.join(runtime.precisions)}{'; a quantization task makes it' if made else ''}",
                "UNSUPPORTED_PRECISION",
            )


def _check_component(component: Component, path: str) -> None:
    names = [entry.name for entry in component.inputs]
    if len(set(names)) != len(names):
        raise invalid_argument(f"{path}.inputs", "input names are unique, but one is repeated")
    for entry in component.inputs:
        _check_input(f"{path}.inputs.{entry.name}", entry, max(component.max_batch, 1))
        _check_values(f"{path}.inputs.{entry.name}", entry)


def _check_input(path: str, entry: ComponentInput, max_batch: int) -> None:
    axis = _batch_axis(path, entry, max_batch)
    if entry.shape:
        try:
            check_shape(_at_batch(entry.shape, axis, max_batch), entry.name)
        except EngineFailure as failure:
            raise invalid_argument(f"{path}.shape", f"at the largest batch: {failure.message}") from failure
    _check_ends(path, entry, axis, max_batch)
    if entry.sample_min > entry.sample_max:
        raise invalid_argument(f"{path}.sample_min", f"{entry.sample_min} is over sample_max, {entry.sample_max}")
    channels = set(entry.shape[1:2]) | set(entry.shape[-1:])
    for field in ("mean_values", "scale_values"):
        count = len(getattr(entry.preprocessing, field))
        if entry.shape and count > 1 and count not in channels:
            raise invalid_argument(
                f"{path}.preprocessing.{field}",
                f"{count} values, but the shape {list(entry.shape)} has no axis of {count} channels",
            )


def _batch_axis(path: str, entry: ComponentInput, max_batch: int) -> int:
    """Return the batch axis, `NO_BATCH` if there is none; LatheError INVALID_ARGUMENT if it cannot be that."""
    declared = entry.HasField("batch_axis")
    if not entry.shape or entry.batch_axis == NO_BATCH:
        return NO_BATCH
    if entry.batch_axis >= len(entry.shape):
        raise invalid_argument(
            f"{path}.batch_axis", f"the shape {list(entry.shape)} has no axis {entry.batch_axis}; count from 0"
        )
    if entry.shape[entry.batch_axis] == 1:
        return entry.batch_axis
    if declared or max_batch > 1:
        raise invalid_argument(
            f"{path}.{'batch_axis' if declared else 'shape'}",
            f"the shape is that of one sample: its batch axis, axis {entry.batch_axis}, is 1 and not "
            f"{entry.shape[entry.batch_axis]}. Say in batch_axis which axis counts the samples, or -1 if none does",
        )
    return NO_BATCH


def _at_batch(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [size if position == axis else extent for position, extent in enumerate(shape)]


def _check_values(path: str, entry: ComponentInput) -> None:
    count = len(entry.sample_values)
    if count not in {0, 1, math.prod(entry.shape)}:
        raise invalid_argument(
            f"{path}.sample_values",
            f"{count} values; give 1 for all elements, or one for each of the {math.prod(entry.shape)} elements of "
            f"{list(entry.shape)}",
        )


def _check_ends(path: str, entry: ComponentInput, batch_axis: int, max_batch: int) -> None:
    """Refuse ends of shapes that are not around the shape: axis by axis `min_shape`, `shape`, `max_shape` rise."""
    ends = {"min_shape": list(entry.min_shape), "max_shape": list(entry.max_shape)}
    if not any(ends.values()):
        return
    for field, extents in ends.items():
        if not extents or len(extents) != len(entry.shape):
            raise invalid_argument(
                f"{path}.{field}",
                f"min_shape, shape and max_shape have one extent per axis: {extents} beside {list(entry.shape)}",
            )
        if batch_axis != NO_BATCH and extents[batch_axis] != 1:
            raise invalid_argument(
                f"{path}.{field}",
                f"its batch axis, axis {batch_axis}, is 1 and not {extents[batch_axis]}: the batch is `max_batch` of "
                "the component",
            )
    for axis, (least, extent, most) in enumerate(zip(ends["min_shape"], entry.shape, ends["max_shape"], strict=True)):
        if not least <= extent <= most:
            field = "min_shape" if least > extent else "max_shape"
            raise invalid_argument(
                f"{path}.{field}", f"axis {axis}: min {least}, shape {extent} and max {most} must rise"
            )
    try:
        check_shape(_at_batch(ends["max_shape"], batch_axis, max_batch), entry.name)
    except EngineFailure as failure:
        raise invalid_argument(f"{path}.max_shape", f"at the largest batch: {failure.message}") from failure
