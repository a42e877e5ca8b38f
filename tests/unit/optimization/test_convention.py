"""How what `optimize()` returns is called: as the model was, whatever its arguments are."""

from typing import Any

import pytest

from engines.api.convention import Convention, Place, declared
from engines.failures import EngineFailure
from engines.spec.template import Component
from engines.tensors import input_shapes
from engines.tensors.element import Step, TensorElement
from engines.tensors.text import parse

COMPONENT = Component(name="model")
NESTED = "input_0['a']:float(1*8)\ninput_0['b']:float(1*4)\ninput_1:int64(1)"


def inputs_and_convention(
    elements: list[TensorElement], *parameters: str
) -> tuple[list[tuple[str, str, tuple[int, ...]]], Convention]:
    component, convention = declared(elements, parameters, COMPONENT)
    return [(given.name, given.place, tuple(given.shape)) for given in component.inputs], convention


@pytest.mark.parametrize(
    "shapes",
    [["1*8", "1*4"], {"features": "1*8", "scale": "1*4"}, {"scale": "1*4", "features": "1*8"}],
    ids=["in order", "by name", "in another order"],
)
def test_inputs_have_the_names_of_the_arguments_and_their_order(shapes: Any) -> None:
    inputs, convention = inputs_and_convention(input_shapes.parse(shapes), "features", "scale", "mask")
    assert inputs == [("features", "", (1, 8)), ("scale", "", (1, 4))]
    for positional, named in (
        ((1, 2), {}),
        ((1,), {"scale": 2}),
        ((), {"scale": 2, "features": 1}),
        ((1, 2, None), {}),
    ):
        assert convention.values(positional, named) == [1, 2]


def test_an_argument_that_is_left_out_makes_those_after_it_go_by_name() -> None:
    inputs, convention = inputs_and_convention(input_shapes.parse({"x": "1*8", "scale": "1*4"}), "x", "mask")
    assert inputs == [("x", "x", (1, 8)), ("scale", "scale", (1, 4))]
    assert convention.values((1,), {"scale": 2}) == [1, 2]


def test_nested_inputs_are_found_where_they_stand() -> None:
    inputs, convention = inputs_and_convention(parse(NESTED), "batch", "index")
    assert [name for name, _, _ in inputs] == ["input_0_a", "input_0_b", "input_1"]
    assert convention.places[0] == Place("batch", (Step("dict", "a"),))
    assert convention.values(({"b": 2, "a": 1},), {"index": 3}) == [1, 2, 3]
    with pytest.raises(EngineFailure, match=r"a tensor at batch\[b\]; the value of 'batch' has none there"):
        convention.values(({"a": 1}, 3), {})


@pytest.mark.parametrize(
    ("positional", "named", "words"),
    [
        ((1, 2, 3), {}, "the call has 3 arguments"),
        ((1,), {"a": 1}, "'a' was given twice"),
        ((1, 2), {"c": 1}, "it takes no 'c'"),
        ((1,), {}, "'b' is missing"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(positional: tuple[int, ...], named: dict[str, int], words: str) -> None:
    with pytest.raises(EngineFailure, match=f"a, b; .*{words}|{words}"):
        Convention.flat(["a", "b"]).values(positional, named)


def test_more_inputs_than_forward_takes_are_refused() -> None:
    with pytest.raises(EngineFailure, match="says 2 inputs; 'forward' takes 1: x"):
        declared(input_shapes.parse(["1", "2"]), ["x"], COMPONENT)
