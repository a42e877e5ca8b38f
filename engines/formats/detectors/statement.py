"""What a detector's configuration says beyond its network: classes, how boxes come from its outputs, its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.spec.open_axes import Declared
from engines.spec.template import ClassTaxonomy, Component, Template
from engines.tensors.inputs import ComponentInput
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.shapes import format_shape

METHOD = "heads"
"""Postprocessing method of raw heads."""
INPUT = "image"
TASK = "object"


@dataclass(frozen=True)
class Statement:
    """What a detector says of its outputs.

    Attributes:
        args: Plain arguments of the method `heads`.
        classes: Names of its classes; empty if it does not say them.
    """

    args: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """The images that a detector takes.

    Attributes:
        height: Rows of pixels.
        width: Columns of pixels.
        mean: Per channel, in the network's order; empty to subtract nothing.
        std: Per channel, in the network's order; empty to divide by nothing.
        color: `RGB` or `BGR`: the network's order.
        divisor: Height and width are multiples of it.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str
    divisor: int = 1

    @property
    def preprocessing(self) -> Preprocessing:
        """The same for a package, which takes RGB pixels from 0 to 255."""
        plain = all(value == 0 for value in self.mean), all(value == 1 for value in self.std)
        return Preprocessing(
            mean_values=() if plain[0] else self.mean,
            scale_values=() if plain[1] else self.std,
            input_color="COLOR_ORDER_RGB",
            model_color=f"COLOR_ORDER_{self.color}",
        )


def with_statement(template: Template, statement: Statement) -> Template:
    """Return a template with what a detector says of its outputs; what the template says itself stays.

    A template of another method stays as it is.
    """
    if template.method != METHOD:
        return template
    found: dict[str, Any] = {"args": {name: typed(value) for name, value in statement.args.items()} | template.args}
    if statement.classes and not template.taxonomies:
        found["taxonomies"] = (ClassTaxonomy(task=TASK, classes=statement.classes),)
    return template.model_copy(update=found)


def with_image(component: Component, images: Images) -> Declared:
    """Return a component with the image that a detector takes, and a warning about where its size is from."""
    shape = (1, 3, images.height, images.width)
    given = ComponentInput(name=INPUT, shape=shape, sample_max=255.0, preprocessing=images.preprocessing)
    multiple = f", multiples of {images.divisor}" if images.divisor > 1 else ""
    words = (
        f"Nothing declares the input, so it is taken from the configuration: {INPUT} {format_shape(shape)}, RGB pixels "
        "of 0 to 255, mean and deviation in the graph. For another size, declare it in tensor information: "
        f"'{INPUT}:float(1*3*height*width)'{multiple}."
    )
    return Declared(component.model_copy(update={"inputs": (given,)}), (words,))


def typed(value: Any) -> dict[str, Any]:
    """Return a plain argument as `lathe.template.v1.TypedArg` writes it in JSON."""
    if isinstance(value, list | tuple):
        kind = "f" if any(isinstance(entry, float) for entry in value) else "s" if isinstance(value[0], str) else "i"
        return {f"v{kind}": {"values": [float(entry) if kind == "f" else entry for entry in value]}}
    return {f"s{'f' if isinstance(value, float) else 's' if isinstance(value, str) else 'i'}": value}
