"""Tensor information applied to the inputs of a component."""

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.spec.information import apply, apply_elements
from engines.spec.template import Component
from engines.tensors.input_shapes import parse as parse_input_shapes
from engines.tensors.inputs import ComponentInput, package_inputs

NET = Component(
    name="net",
    max_batch=4,
    inputs=(
        ComponentInput(name="image", shape=(1, 3, 8, 8), sample_max=5.0),
        ComponentInput(name="ids", dtype="int32"),
    ),
)
EMPTY = Component(name="net", max_batch=4)


def failure(text: str, component: Component = NET) -> str:
    with pytest.raises(EngineFailure) as caught:
        apply(text, component)
    assert caught.value.reason is FailureReason.INVALID_SPEC
    return caught.value.message


def test_an_empty_text_changes_nothing() -> None:
    assert apply(" \n", NET) is NET


@pytest.mark.parametrize(
    "text",
    [
        "input_0:half(1*3*4*4)\ninput_1:int64(1*7)",
        "input_1:int64(1*7)\ninput_0:half(1*3*4*4)",
        "image:half(1*3*4*4)\nids:int64(1*7)",
        "input_0[image]:half(1*3*4*4)\ninput_1[ids]:int64(1*7)",
    ],
)
def test_elements_find_declared_inputs_by_name_or_position(text: str) -> None:
    component = apply(text, NET)
    found = {given.name: (given.dtype, given.shape, given.place) for given in component.inputs}
    assert found == {"image": ("float16", (1, 3, 4, 4), ""), "ids": ("int64", (1, 7), "")}
    assert component.max_batch == 4
    assert next(given for given in component.inputs if given.name == "image").sample_max == 5.0


def test_ranges_become_profiles_and_a_common_first_axis_the_batch() -> None:
    component = apply("ids:int32(1*4,8*384)\nmask:bool(1*4,8*384)", EMPTY)
    assert component.max_batch == 8
    ids, mask = package_inputs(component.inputs, component.largest_batch)
    assert (ids.min, ids.opt, ids.max) == (mask.min, mask.opt, mask.max) == ((1, 4), (1, 192), (8, 384))
    assert [given.place for given in component.inputs] == ["ids", "mask"]


def test_a_batch_alone_leaves_no_other_range() -> None:
    component = apply("input_0:float(1*3*8*8,16*3*8*8)", EMPTY)
    assert component.max_batch == 16
    assert component.inputs == (ComponentInput(name="input_0", shape=(1, 3, 8, 8)),)


def test_first_axes_that_differ_are_no_batch() -> None:
    component = apply("input_0:float(1*4,8*4)\ninput_1:float(1*4,9*4)", EMPTY)
    assert component.max_batch == 1
    inputs = package_inputs(component.inputs, component.largest_batch)
    assert [(spec.min, spec.max) for spec in inputs] == [((1, 4), (8, 4)), ((1, 4), (9, 4))]


def test_a_set_keeps_its_members() -> None:
    (spec,) = package_inputs(apply("input_0:float([3*16*8,3*8*16])", Component(name="net")).inputs, 1)
    assert (spec.min, spec.opt, spec.max) == ((3, 8, 8), (3, 16, 8), (3, 16, 16))
    assert spec.members == ((3, 16, 8), (3, 8, 16))


def test_nested_inputs_have_names_and_places() -> None:
    text = "input_0:float(1)\ninput_1[key](0):float(1)\ninput_1[key](1):float(1)\ninput_2:float(1)"
    assert [(given.name, given.place) for given in apply(text, EMPTY).inputs] == [
        ("input_0", "input_0"),
        ("input_1_key_0", "input_1[key](0)"),
        ("input_1_key_1", "input_1[key](1)"),
        ("input_2", "input_2"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input_0:float(1)", r"says 1 inputs of component 'net' (input_0); the model has 2: image, ids."),
        (
            "image:float(1)\nmask:bool(1)",
            "line 2, says the input 'mask', which component 'net' does not have; it has image",
        ),
        ("input_0[picture]:float(1)\ninput_1:bool(1)", "line 1, says the input 'picture', which"),
        ("image:float(3*1,2*2)\nids:int32(1)", "line 1, column 17: Expected a maximum of at least the minimum, 3"),
    ],
)
def test_a_misfit_is_reported_with_both_sides(text: str, words: str) -> None:
    assert words in failure(text)


def test_input_shapes_leave_the_models_own_dtypes() -> None:
    shapes = [{"range": ["1*3*8*8", "2*3*8*8"]}, {"seperate": ["1*7"], "dtype": "int"}]
    image, ids = apply_elements(parse_input_shapes(shapes), NET).inputs
    assert (image.name, image.dtype, image.max_shape) == ("image", "float32", (2, 3, 8, 8))
    assert (ids.name, ids.dtype, ids.shape) == ("ids", "int32", (1, 7))
    halves = apply_elements(
        parse_input_shapes([{"seperate": ["1", "2"], "dtype": "half"}, "4", {"range": ["1", "2"], "dtype": "int"}]),
        EMPTY,
    ).inputs
    assert [(given.name, given.dtype) for given in halves] == [
        ("input_0", "float16"),
        ("input_1", "float32"),
        ("input_2", "int64"),
    ]
