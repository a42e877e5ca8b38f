"""The nested lists, tuples and dicts that elements of tensor information describe: checked, and filled with values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.tensors.element import Step, TensorElement

Way = tuple[Step, ...]


def check_structure(elements: Sequence[TensorElement]) -> tuple[int, str] | None:
    """Return the first element that does not fit those before it, by its index, and why; None if all fit."""
    kinds: dict[tuple[str, Way], str] = {}
    names: dict[str, str] = {}
    for index, element in enumerate(elements):
        inside = [*(step.kind for step in element.steps), "tensor"]
        for depth, kind in enumerate(inside):
            before = kinds.setdefault((element.argument, element.steps[:depth]), kind)
            if before != kind:
                return index, f"Expected a {before} as in a line before; found a {kind}: {element.place}."
        if element.name in names:
            return index, f"Expected another element than '{names[element.name]}', which is given already."
        names[element.name] = element.place
    return _first_gap(elements)


def _first_gap(elements: Sequence[TensorElement]) -> tuple[int, str] | None:
    """Return the first item of a list or tuple whose predecessor is missing."""
    items = {(e.argument, e.steps[: depth + 1]) for e in elements for depth in range(len(e.steps))}
    for index, element in enumerate(elements):
        for depth, step in enumerate(element.steps):
            if isinstance(step.key, int) and step.key > 0:
                missing = Step(step.kind, step.key - 1)
                if (element.argument, (*element.steps[:depth], missing)) not in items:
                    return (
                        index,
                        f"Expected item {step.key - 1} of the {step.kind} beside item {step.key}; it is missing.",
                    )
    return None


def is_positional(elements: Sequence[TensorElement]) -> bool:
    """Return whether level 1 is a list or tuple: its names are `input_0`, `input_1`… without a gap."""
    positions = {element.position for element in elements}
    return positions == set(range(len(positions)))


def assemble(elements: Sequence[TensorElement], arrays: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments of a call, nested as the elements describe.

    Args:
        elements: The elements.
        arrays: One value per element, in their order: arrays, tensors or anything else.
    """
    root: dict[str, Any] = {}
    for element, value in zip(elements, arrays, strict=True):
        place: dict[Any, Any] = root
        way = (element.argument, *element.steps)
        for step in way[:-1]:
            place = place.setdefault(step, {})
        place[way[-1]] = value
    arguments = {str(name): _collected(value) for name, value in root.items()}
    if is_positional(elements):
        return tuple(arguments[f"input_{index}"] for index in range(len(arguments))), {}
    return (), arguments


def _collected(value: Any) -> Any:
    """Return steps and their values as the list, tuple or dict that they describe; any other value unchanged."""
    if not (isinstance(value, dict) and value and all(isinstance(step, Step) for step in value)):
        return value
    items = {step.key: _collected(item) for step, item in value.items()}
    kind = next(iter(value)).kind
    if kind == "dict":
        return items
    ordered = [items[index] for index in range(len(items))]
    return ordered if kind == "list" else tuple(ordered)
