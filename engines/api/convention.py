"""Calling convention of a model: the names of its arguments, and the places of its graph's tensors among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.failures import invalid
from engines.spec.information import apply_elements
from engines.spec.template import Component
from engines.tensors.element import Step, TensorElement
from engines.tensors.tree import is_positional


@dataclass(frozen=True)
class Place:
    """Place of an input's tensor: the argument, and the path from there into nested lists, tuples and dicts."""

    argument: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return self.argument + "".join(map(str, self.steps))


@dataclass(frozen=True)
class Convention:
    """The calling convention of a model.

    Attributes:
        parameters: Names of its positional parameters, in order.
        places: Place of each input's tensor, in the order of the inputs.
    """

    parameters: tuple[str, ...]
    places: tuple[Place, ...]

    @classmethod
    def flat(cls, names: Sequence[str]) -> Convention:
        """Return the convention of a model whose arguments are its inputs."""
        return cls(tuple(names), tuple(map(Place, names)))

    def values(self, positional: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """Return the value of each input in a call. Arguments without an input may be None.

        Raises:
            EngineFailure: INVALID_SPEC for arguments that are missing, too many, or not nested as they were.
        """
        takes = ", ".join(dict.fromkeys(place.argument for place in self.places))
        if len(positional) > len(self.parameters):
            raise invalid(f"The model takes {takes}; the call has {len(positional)} arguments.")
        given = dict(zip(self.parameters, positional, strict=False))
        if twice := set(given) & set(named):
            raise invalid(f"The model takes {takes}; '{min(twice)}' was given twice.")
        given |= named
        known = {place.argument for place in self.places}
        for name, value in given.items():
            if name not in known and value is not None:
                raise invalid(f"The model was optimized with {takes}; it takes no '{name}'.")
        return [_at(place, given, takes) for place in self.places]


def declared(
    elements: Sequence[TensorElement], parameters: Sequence[str], component: Component
) -> tuple[Component, Convention]:
    """Return a component with its inputs, named after their arguments, and its calling convention.

    Args:
        elements: The user's description of the inputs: by position, by name, or nested.
        parameters: Names of the model's positional parameters, in order.
        component: The component, which declares no inputs.

    Raises:
        EngineFailure: INVALID_SPEC for more inputs than the model takes, or an impossible input.
    """
    if is_positional(elements):
        elements = sorted(elements, key=lambda element: element.position or 0)
    places = [place_of(element, parameters) for element in elements]
    if not any(place.steps for place in places):
        leading = list(parameters[: len(places)])
        if sorted(place.argument for place in places) == sorted(leading):
            component, places = _in_a_row(elements, places, leading, component)
            return component, Convention(tuple(parameters), tuple(places))
    return apply_elements(elements, component), Convention(tuple(parameters), tuple(places))


def place_of(element: TensorElement, parameters: Sequence[str]) -> Place:
    """Return the place of an element's tensor.

    Raises:
        EngineFailure: INVALID_SPEC for a position that the model does not have.
    """
    return Place(_argument(element, parameters), element.steps)


def _in_a_row(
    elements: Sequence[TensorElement], places: Sequence[Place], leading: list[str], component: Component
) -> tuple[Component, list[Place]]:
    """Return inputs and their places if each is an argument by itself, in the order of the arguments."""
    pairs = sorted(zip(places, elements, strict=True), key=lambda pair: leading.index(pair[0].argument))
    named = [
        dataclasses.replace(element, argument=f"input_{index}", tensor_name=element.tensor_name or place.argument)
        for index, (place, element) in enumerate(pairs)
    ]
    return apply_elements(named, component), [place for place, _ in pairs]


def _argument(element: TensorElement, parameters: Sequence[str]) -> str:
    position = element.position
    if position is None or element.argument in parameters:
        return element.argument
    if position >= len(parameters):
        raise invalid(
            f"input_shapes says {position + 1} inputs; 'forward' takes {len(parameters)}: {', '.join(parameters)}."
        )
    return parameters[position]


def _at(place: Place, given: Mapping[str, Any], takes: str) -> Any:
    value = given.get(place.argument)
    if value is None:
        raise invalid(f"The model takes {takes}; '{place.argument}' is missing.")
    for step in place.steps:
        try:
            value = value[step.key]
        except (KeyError, IndexError, TypeError):
            raise invalid(
                f"The model takes a tensor at {place}; the value of '{place.argument}' has none there."
            ) from None
    return value
