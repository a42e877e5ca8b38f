"""Applies tensor information to a component: its elements become the component's declared inputs.

`engines.tensors.text` has the grammar and the parser, `engines.tensors.tree` calls a model with nested arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.failures import invalid
from engines.spec.template import Component
from engines.tensors.element import TensorElement
from engines.tensors.inputs import ComponentInput
from engines.tensors.signature import NO_BATCH
from engines.tensors.text import parse
from engines.tensors.tree import is_positional


def apply(text: str, component: Component) -> Component:
    """Return the component with its inputs as a text describes them; unchanged if the text is empty.

    Raises:
        EngineFailure: INVALID_SPEC with line and column, or naming the input that does not fit, and both sides.
    """
    return apply_elements(parse(text), component) if text.strip() else component


def apply_elements(elements: Sequence[TensorElement], component: Component) -> Component:
    """Return the component with its inputs as elements describe them.

    Elements are matched with declared inputs by name if each has the name of one, else by position. The batch axis of
    an element, the first by default, counts as the batch if it ranges from 1 to the same number in every input that has
    one. If it is 1 in all of them, the component's largest batch stays.

    Raises:
        EngineFailure: INVALID_SPEC naming the input that does not fit, and what each side says.
    """
    ordered = _ordered(elements)
    declared = _matched(ordered, component)
    inputs = _inputs(ordered, declared)
    batch = _batch(ordered)
    if batch > 1:
        inputs = tuple(_per_sample(given) for given in inputs)
    return component.model_copy(update={"inputs": inputs, "max_batch": batch or component.max_batch})


def names_in(text: str) -> list[str]:
    """Return the names of the elements of a text; none of an empty one.

    Raises:
        EngineFailure: INVALID_SPEC with line and column.
    """
    return [element.name for element in parse(text)] if text.strip() else []


def _ordered(elements: Sequence[TensorElement]) -> list[TensorElement]:
    if is_positional(elements):
        return sorted(elements, key=lambda element: element.position or 0)
    return list(elements)


def _matched(elements: Sequence[TensorElement], component: Component) -> Sequence[ComponentInput | None]:
    """Return the declared input of each element; None for all if the component declares no inputs."""
    inputs = component.inputs
    if not inputs:
        return [None] * len(elements)
    by_name: Mapping[str, ComponentInput] = {given.name: given for given in inputs}
    names = [element.name for element in elements]
    if len(elements) != len(inputs):
        raise invalid(
            f"Tensor information says {len(elements)} inputs of component '{component.name}' ({', '.join(names)}); "
            f"the model has {len(inputs)}: {', '.join(by_name)}.",
            "Write one element a line for each input of the model.",
        )
    for element in elements:
        if element.name not in by_name and (element.tensor_name or not is_positional(elements)):
            raise invalid(
                f"Tensor information{_line(element)} says the input '{element.name}', which component "
                f"'{component.name}' does not have; it has {', '.join(by_name)}.",
                "Write the model's own names, or input_0, input_1… in the order of its inputs.",
            )
    if all(name in by_name for name in names):
        return [by_name[name] for name in names]
    return inputs


def _inputs(elements: Sequence[TensorElement], declared: Sequence[ComponentInput | None]) -> tuple[ComponentInput, ...]:
    """Return the inputs, with their places if some are nested or have names that no input declares."""
    nested = any(element.steps for element in elements)
    placed = nested or (not is_positional(elements) and None in declared)
    return tuple(
        _to_input(element, given, element.place if placed else "")
        for element, given in zip(elements, declared, strict=True)
    )


def _to_input(element: TensorElement, given: ComponentInput | None, place: str) -> ComponentInput:
    shapes = element.shapes
    profile = {} if shapes.kind == "fixed" else {"min_shape": shapes.min, "max_shape": shapes.max}
    values = {
        "name": element.name if given is None else given.name,
        "dtype": _dtype(element, given),
        "shape": shapes.opt,
        "min_shape": (),
        "max_shape": (),
        "shapes": shapes.shapes if shapes.kind == "discrete" and len(shapes.shapes) > 1 else (),
        "place": place,
        **profile,
        **({} if element.batch_axis is None else {"batch_axis": element.batch_axis}),
        **({"sample_values": element.values} if element.values else {}),
    }
    return ComponentInput(**values) if given is None else given.model_copy(update=values)


def _dtype(element: TensorElement, given: ComponentInput | None) -> str:
    """Return the element's dtype; the declared one if the element has none or stands for any integers."""
    if given is not None and (not element.dtype or (element.dtype == "int" and "int" in given.dtype)):
        return given.dtype
    return {"": "float32", "int": "int64"}.get(element.dtype, element.dtype)


def _batch(elements: Sequence[TensorElement]) -> int:
    """Return the largest batch; 0 if no batch axis states one, 1 if the axes cannot be a batch."""
    counted = [(element.shapes, element.counted_axis) for element in elements]
    ends = {(shapes.min[axis], shapes.max[axis]) for shapes, axis in counted if axis is not None}
    if ends <= {(1, 1)}:
        return 0
    ranges = all(shapes.kind == "range" for shapes, axis in counted if axis is not None)
    low, high = next(iter(ends))
    return high if ranges and len(ends) == 1 and low == 1 else 1


def _per_sample(given: ComponentInput) -> ComponentInput:
    """Return the input with a batch axis of 1, because the component states the batch."""
    axis = given.batch_axis or 0
    if not given.shape or axis == NO_BATCH:
        return given
    parts = {part: getattr(given, part) for part in ("shape", "min_shape", "max_shape")}
    ends = {part: (*shape[:axis], 1, *shape[axis + 1 :]) if shape else () for part, shape in parts.items()}
    if ends["min_shape"] == ends["max_shape"]:
        ends |= {"min_shape": (), "max_shape": ()}
    return given.model_copy(update=ends)


def _line(element: TensorElement) -> str:
    return f", line {element.line}," if element.line else ""
