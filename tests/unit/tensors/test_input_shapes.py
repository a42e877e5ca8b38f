"""`input_shapes` of `optimize()`: lists of shapes as users write them."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.tensors.element import Shapes
from engines.tensors.input_shapes import parse

FIXED = Shapes("fixed", ((1, 3, 224, 224),))
TWO = Shapes("discrete", ((1, 3, 224, 224), (1, 3, 512, 512)))
BATCHES = Shapes("range", ((1, 3, 224, 224), (8, 3, 224, 224)))
SMALL, LARGE = "1*3*224*224", "1*3*512*512"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([SMALL], [(FIXED, "")]),
        ([" 1 * 3*224 *\t224 "], [(FIXED, "")]),
        ([SMALL, "7"], [(FIXED, ""), (Shapes("fixed", ((7,),)), "")]),
        ([[SMALL], [LARGE]], [(TWO, "")]),
        ([[SMALL]], [(FIXED, "")]),
        ([[SMALL, "1*4"], [LARGE, "1*4"]], [(TWO, ""), (Shapes("fixed", ((1, 4),)), "")]),
        ([{"seperate": [SMALL, LARGE]}], [(TWO, "")]),
        ([{"separate": [SMALL], "dtype": "int"}], [(FIXED, "int")]),
        (
            [{"range": [SMALL, "8*3*224*224"], "dtype": "half"}, LARGE],
            [(BATCHES, "float16"), (Shapes("fixed", ((1, 3, 512, 512),)), "")],
        ),
        (({"range": (SMALL, "8*3*224*224"), "dtype": "float"},), [(BATCHES, "float32")]),
    ],
)
def test_lists_are_read(value: Any, expected: list[tuple[Shapes, str]]) -> None:
    elements = parse(value)
    assert [(element.shapes, element.dtype) for element in elements] == expected
    assert [element.argument for element in elements] == [f"input_{index}" for index in range(len(expected))]


def test_a_dictionary_gives_shapes_by_name() -> None:
    found = parse({"image": {"range": [SMALL, "8*3*224*224"], "dtype": "half"}, "scale": "1"})
    assert [(element.argument, element.dtype, element.shapes.kind) for element in found] == [
        ("image", "float16", "range"),
        ("scale", "", "fixed"),
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"image": 3}, "input_shapes['image']: expected a shape such as '1*3*224*224'"),
        ({"image": {"range": ["1*x", "1"]}}, "input_shapes['image']['range'][0]: expected a shape"),
    ],
)
def test_mistakes_in_a_dictionary_name_the_key(value: Any, words: str) -> None:
    with pytest.raises(EngineFailure) as raised:
        parse(value)
    assert raised.value.message.startswith(words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (SMALL, "input_shapes: expected a list with one item per input; found '1*3*224*224'."),
        ([], "input_shapes: expected a list"),
        ([3], "input_shapes[0]: expected a shape such as '1*3*224*224', a list of shapes or a dictionary; found 3."),
        (["1*x"], "input_shapes[0]: expected a shape such as '1*3*224*224'; found '1*x'."),
        (
            ["1*0"],
            "input_shapes[0]: expected a shape that a tensor can have; found '1*0'. The shape 1*0, has the extent 0",
        ),
        (["1*3", ["2"]], "input_shapes[0]: expected a list of shapes, as the other items are; found '1*3'."),
        ([["1", "2"], ["3"]], "input_shapes[1]: expected 2 shapes, as input_shapes[0] has; found ['3']."),
        ([["1"], ["1*2"]], "shape 0 of the lists: expected 1 axes, as the first shape has; found '1*2'."),
        (
            [{"range": ["1"]}],
            "input_shapes[0]['range']: expected two shapes, the smallest and the largest; found ['1'].",
        ),
        ([{"range": ["1", "1*2"]}], "input_shapes[0]['range'][1]: expected 1 axes, as the smallest shape has"),
        ([{"range": ["4*3", "4*2"]}], "input_shapes[0]['range'][1]: expected an extent of at least 3 on axis 1"),
        ([{"seperate": "1*2"}], "input_shapes[0]['seperate']: expected a list of shapes; found '1*2'."),
        ([{"shape": ["1"]}], "input_shapes[0]: expected one of the keys 'seperate' and 'range', and perhaps 'dtype'"),
        ([{"range": ["1", "2"], "dtype": "double"}], "input_shapes[0]['dtype']: expected one of float, int, half"),
        ([{"range": ["1", "2"], "dtype": []}], "input_shapes[0]['dtype']: expected one of float, int, half"),
    ],
)
def test_mistakes_are_reported_with_place_expectation_and_finding(value: Any, words: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        parse(value)
    assert words in caught.value.message
    assert caught.value.reason is FailureReason.INVALID_SPEC


texts = st.text("12*3 x", max_size=8) | st.text(max_size=4)
values = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["range", "seperate", "dtype"]), inner),
    max_leaves=6,
)


@given(values)
def test_any_value_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(EngineFailure):
        assert parse(value)
