"""Templates that come with Lathe: one per source, device, runtime and precision that this release can build."""

from __future__ import annotations

from collections.abc import Iterator

from lathe.registry.v1.model_service_pb2 import ModelFormat
from lathe.template.v1.template_service_pb2 import COLOR_ORDER_RGB, Component, ComponentInput, Preprocessing, Template
from lathe.type.v1.precision_pb2 import Precision

from engines.formats import CONVERTIBLE, FORMATS
from engines.formats.protocol import Format
from engines.runtimes import builds_from
from engines.spec.devices import Device, DeviceRuntime, load_catalog
from services.platform.words import number
from services.siblings.recipes import built_in_name

OWNER = "lathe"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_SCALE = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's training images per RGB channel, for pixels of 0 to 255."""


def built_in_templates() -> list[Template]:
    """Return every built-in template, complete but for name-independent output fields."""
    return [
        template
        for device in load_catalog().devices.values()
        for runtime in device.buildable_runtimes.values()
        for precision in runtime.precisions
        for source in map(FORMATS.__getitem__, CONVERTIBLE)
        if builds_from(runtime.name, source.forms)
        for template in _variants(source, device, runtime, precision)
    ]


def _variants(source: Format, device: Device, runtime: DeviceRuntime, precision: str) -> Iterator[Template]:
    form = f"{source.name} for {device.id} with {runtime.name} in {precision}"
    place = (device.id, runtime.name, precision)
    common = Template(
        owner=OWNER,
        built_in=True,
        repo="default",
        version="1",
        source_format=number(ModelFormat, source.name),
        device=device.id,
        runtime=runtime.name,
        precision=number(Precision, precision),
    )
    anything = Template(
        name=built_in_name(source.name, *place),
        display_name=form,
        description=source.template_note,
        method=source.method,
        components=[Component(name="model", max_batch=1)],
    )
    anything.MergeFrom(common)
    yield anything
    if not source.weights_only:  # the source states its inputs and their names
        return
    image = ComponentInput(
        name="image",
        shape=[1, 3, 224, 224],
        sample_max=255,
        preprocessing=Preprocessing(
            mean_values=IMAGENET_MEAN,
            scale_values=IMAGENET_SCALE,
            input_color=COLOR_ORDER_RGB,
            model_color=COLOR_ORDER_RGB,
        ),
    )
    classifier = Template(
        name=built_in_name(source.name, *place, variant="imagenet"),
        display_name=f"Image classifier, {form}",
        description="Takes RGB pixels of 0 to 255 at 224 by 224; ImageNet's mean and scale are baked into the graph.",
        method="classification",
        components=[Component(name="model", model_type="classifier", inputs=[image], max_batch=8)],
    )
    classifier.MergeFrom(common)
    yield classifier
