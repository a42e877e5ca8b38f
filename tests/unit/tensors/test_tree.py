"""Values in the nested calling convention of elements."""

from typing import Any

from hypothesis import given, settings

from engines.tensors.element import TensorElement
from engines.tensors.text import parse
from engines.tensors.tree import assemble
from tests.unit.tensors.strategies import elements


def at(value: Any, element: TensorElement) -> Any:
    """Follow an element's steps into a value."""
    for step in element.steps:
        assert type(value).__name__ == step.kind
        value = value[step.key]
    return value


@settings(max_examples=40)
@given(elements())
def test_every_value_is_placed_by_its_element(drawn: list[TensorElement]) -> None:
    positional, named = assemble(drawn, range(len(drawn)))
    assert not (positional and named)
    for index, element in enumerate(drawn):
        value = named[element.argument] if named else positional[element.position or 0]
        assert at(value, element) == index


def test_positions_count_and_keys_are_keywords() -> None:
    text = "input_1[a](1):float(1)\ninput_1[a](0):float(1)\ninput_1[b][0]:float(1)\ninput_0:float(1)"
    assert assemble(parse(text), "wxyz") == (("z", {"a": ("x", "w"), "b": ["y"]}), {})
    assert assemble(parse("ids:int64(1)\nmask:bool(1)"), [1, {2: 3}]) == ((), {"ids": 1, "mask": {2: 3}})
    assert assemble(parse("input_1:float(1)"), [1]) == ((), {"input_1": 1})
