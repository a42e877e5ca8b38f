"""Tensor information: what users say of a model's inputs, and the inputs of a component that it stands for.

`parse` and `format_text` read and write the text (`engines.tensor_text` has the grammar), `assemble` calls a model as
the elements nest, and `apply` lays a text over a component's inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.conversion_request import Component, ComponentInput, invalid
from engines.tensor_element import Shapes, Step, TensorElement
from engines.tensor_text import format_text, parse
from engines.tensor_tree import assemble, is_positional

__all__ = [
    "Shapes",
    "Step",
    "TensorElement",
    "apply",
    "apply_elements",
    "assemble",
    "format_text",
    "parse",
    "to_inputs",
]


def to_inputs(elements: Sequence[TensorElement]) -> tuple[ComponentInput, ...]:
    """Return the elements as inputs of a component that says none; positional ones in the order of their positions."""
    return tuple(_to_input(element, None) for element in _ordered(elements))


def apply(text: str, component: Component) -> Component:
    """Return the component with its inputs as a text says; as it is where the text is empty.

    Raises:
        EngineFailure: INVALID_SPEC with line and column, or naming the input that does not fit, and both sides.
    """
    return apply_elements(parse(text), component) if text.strip() else component


def apply_elements(elements: Sequence[TensorElement], component: Component) -> Component:
    """Return the component with its inputs as elements say.

    Elements are matched with declared inputs by name, where each has the name of one, else by position. A first axis
    that ranges from 1 to one number in every input that has axes is the batch.

    Raises:
        EngineFailure: INVALID_SPEC naming the input that does not fit, and both sides.
    """
    ordered = _ordered(elements)
    declared = _matched(ordered, component)
    inputs = tuple(_to_input(element, given) for element, given in zip(ordered, declared, strict=True))
    batch = _batch(ordered)
    if batch > 1:
        inputs = tuple(_per_sample(given) for given in inputs)
    return component.model_copy(update={"inputs": inputs, "max_batch": batch})


def _ordered(elements: Sequence[TensorElement]) -> list[TensorElement]:
    if is_positional(elements):
        return sorted(elements, key=lambda element: element.position or 0)
    return list(elements)


def _matched(elements: Sequence[TensorElement], component: Component) -> Sequence[ComponentInput | None]:
    """Return the declared input of each element; None for all where the component declares none."""
    inputs = component.inputs
    if not inputs:
        return [None] * len(elements)
    by_name: Mapping[str, ComponentInput] = {given.name: given for given in inputs}
    names = [element.name for element in elements]
    if len(elements) != len(inputs):
        raise invalid(
            f"Tensor information says {len(elements)} inputs of component '{component.name}' ({', '.join(names)}); "
            f"the model has {len(inputs)}: {', '.join(by_name)}."
        )
    for element in elements:
        if element.name not in by_name and (element.tensor_name or not is_positional(elements)):
            raise invalid(
                f"Tensor information{_line(element)} says the input '{element.name}', which component "
                f"'{component.name}' does not have; it has {', '.join(by_name)}."
            )
    if all(name in by_name for name in names):
        return [by_name[name] for name in names]
    return inputs


def _to_input(element: TensorElement, given: ComponentInput | None) -> ComponentInput:
    shapes = element.shapes
    profile = {} if shapes.kind == "fixed" else {"min_shape": shapes.min, "max_shape": shapes.max}
    place = element.place if element.steps or element.position is None else ""
    values = {
        "name": element.name if given is None else given.name,
        "dtype": _dtype(element, given),
        "shape": shapes.opt,
        "min_shape": (),
        "max_shape": (),
        "shapes": shapes.shapes if shapes.kind == "discrete" and len(shapes.shapes) > 1 else (),
        "place": place if given is None or element.steps else "",
        **profile,
    }
    return ComponentInput(**values) if given is None else given.model_copy(update=values)


def _dtype(element: TensorElement, given: ComponentInput | None) -> str:
    """Return the element's dtype; the declared one where the element says none, or any whole numbers."""
    if given is not None and (not element.dtype or (element.dtype == "int" and "int" in given.dtype)):
        return given.dtype
    return {"": "float32", "int": "int64"}.get(element.dtype, element.dtype)


def _batch(elements: Sequence[TensorElement]) -> int:
    """Return the largest batch: 1 where the first axes do not all range from 1 to one number."""
    ends = {(e.shapes.min[0], e.shapes.max[0]) for e in elements if e.shapes.min}
    sets = any(e.shapes.kind == "discrete" for e in elements)
    return next(iter(ends))[1] if len(ends) == 1 and next(iter(ends))[0] == 1 and not sets else 1


def _per_sample(given: ComponentInput) -> ComponentInput:
    """Return the input with a first axis of 1: the batch is the component's."""
    if not given.shape:
        return given
    ends = {part: (1, *getattr(given, part)[1:]) for part in ("shape", "min_shape", "max_shape")}
    if ends["min_shape"] == ends["max_shape"]:
        ends |= {"min_shape": (), "max_shape": ()}
    return given.model_copy(update=ends)


def _line(element: TensorElement) -> str:
    return f", line {element.line}," if element.line else ""
