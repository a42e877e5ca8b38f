"""The text of tensor information: reading inverts writing, and every mistake has a position."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.tensors.element import Shapes, Step, TensorElement
from engines.tensors.text import parse
from tests.unit.tensors.strategies import elements

WHERE = re.compile(r"Tensor information, line ([0-9]+), column ([0-9]+): (Expected .+)", re.DOTALL)
ALPHABET = "input_0 keyfloathalf:int32[](),*'\\-123.\n\t\r"


def failure_of(text: str) -> tuple[int, int, str]:
    """Return line, column and sentence of the mistake in a text."""
    with pytest.raises(EngineFailure) as caught:
        parse(text)
    found = WHERE.fullmatch(caught.value.message)
    assert found is not None, caught.value.message
    assert caught.value.reason is FailureReason.INVALID_SPEC
    return int(found[1]), int(found[2]), found[3]


@settings(max_examples=40)
@given(elements())
def test_what_is_written_is_read_again(drawn: list[TensorElement]) -> None:
    text = "\n".join(map(str, drawn))
    read = parse(text)
    assert read == drawn
    assert "\n".join(map(str, read)) == text


@given(st.lists(st.text(" \t\r", max_size=2), min_size=20, max_size=20))
def test_spaces_and_empty_lines_do_not_matter(spaces: list[str]) -> None:
    tokens = ["x", "[", "key", "]", "(", "0", ")", ":", "half", "(", "[", "1", "*", "3", ",", "2", "*", "3", "]", ")"]
    line = "".join(token + space for token, space in zip(tokens, spaces, strict=True))
    assert str(*parse(f"\n{spaces[0]}{line}\n{spaces[1]}\n")) == "x[key](0):half([1*3,2*3])"


@given(st.text(ALPHABET) | st.text())
def test_garbage_is_refused_at_a_place_within_it(text: str) -> None:
    try:
        read = parse(text)
    except EngineFailure:
        line, column, _ = failure_of(text)
        lines = text.split("\n")
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    else:
        assert parse("\n".join(map(str, read))) == read


@settings(max_examples=40)
@given(elements(), st.data())
def test_a_changed_character_is_read_or_refused(drawn: list[TensorElement], data: st.DataObject) -> None:
    text = "\n".join(map(str, drawn))
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.sampled_from(["", *ALPHABET])) + text[at + 1 :]
    try:
        parse(changed)
    except EngineFailure:
        failure_of(changed)


def test_the_examples_of_the_grammar() -> None:
    text = """
    input_ids:int32(1*4,8*384)
    image[pixels]:float([3*512*512, 3*1024*1024])
    nested[key](0):half( 1 * 3 )
    nested[other][0][deep]:array.char()
    """
    ids, image, first, second = parse(text)
    assert ids == TensorElement("input_ids", (), "", "int32", Shapes("range", ((1, 4), (8, 384))))
    assert (ids.shapes.min, ids.shapes.opt, ids.shapes.max) == ((1, 4), (4, 192), (8, 384))
    assert image.tensor_name == "pixels"
    assert image.shapes == Shapes("discrete", ((3, 512, 512), (3, 1024, 1024)))
    assert first.steps == (Step("dict", "key"), Step("tuple", 0))
    assert (second.dtype, second.shapes.shapes, second.name) == ("string", ((),), "nested_other_0_deep")
    assert [element.line for element in (ids, image, first, second)] == [2, 3, 4, 5]


def test_several_elements_with_options_fit_on_a_line() -> None:
    text = "x:float(1*4,8*4) state:float(2*1*3) batch=1 sr:int64() value=16000\nb:half(1*2) value=[1,-.5]"
    x, state, rate, bias = parse(text)
    assert (x.batch_axis, x.values, x.line) == (None, (), 1)
    assert (state.batch_axis, state.one_sample) == (1, (2, 1, 3))
    assert (rate.shapes.opt, rate.values) == ((), (16000.0,))
    assert (bias.values, bias.line) == ((1.0, -0.5), 2)
    assert str(parse("x:float(3) batch=none")[0]) == "x:float(3) batch=none"


def test_a_lone_word_in_brackets_is_the_tensors_name_and_words_of_siblings_are_keys() -> None:
    assert parse("input_0[image]:float(1)")[0].tensor_name == "image"
    assert parse("input_0['image']:float(1)")[0].steps == (Step("dict", "image"),)
    siblings = parse("input_0[image]:float(1)\ninput_0[mask]:bool(1)")
    assert [element.steps for element in siblings] == [(Step("dict", "image"),), (Step("dict", "mask"),)]


@pytest.mark.parametrize(
    ("low", "high", "middle"),
    [(1, 8, 4), (480, 512, 480), (512, 1024, 768), (32, 96, 64), (7, 7, 7), (2048, 2048, 2048)],
)
def test_a_range_is_tuned_for_its_middle_in_steps_that_divide_both_ends(low: int, high: int, middle: int) -> None:
    assert Shapes("range", ((low,), (high,))).opt == (middle,)


@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        ("", 1, 1, "an element such as"),
        ("x:float(3)\ny", 2, 2, "'[', '(' or ':' and the dtype; found the end of the line"),
        ("x:flot(3)", 1, 3, "a dtype, one of float, half, double, int8"),
        ("x:float[3]", 1, 8, "'(' and the shape; found '[3]'"),
        ("x:float(3", 1, 10, "'*' and an extent, ',' and a shape, or ')'; found the end of the line"),
        ("x:float(3*)", 1, 11, "an extent; found ')'"),
        ("x:float(0*3)", 1, 9, "a number from 1 to 1048576"),
        ("x:float(3*-2)", 1, 11, "a number from 1 to 1048576"),
        ("x:float(3*99999999999999999999999)", 1, 11, "a number from 1 to 1048576"),
        ("x:float(1048576*1048576)", 1, 9, "a shape of at most 536870912 elements"),
        ("x:float(3*4,3*2)", 1, 15, "a maximum of at least the minimum, 4; found '2)'"),
        ("x:float(3*4,3)", 1, 14, "the first shape has 2 axes"),
        ("x:float(3*4,3*4*5)", 1, 17, "no more than 2 axes"),
        ("x:float(1,2,3)", 1, 12, "')'; found ',3)'"),
        ("x:float([3*4,3*4])", 1, 14, "a shape that the set does not hold yet"),
        ("x:float([3*4,3)", 1, 15, "the first shape has 2 axes"),
        ("x:float([3*4)", 1, 13, "'*' and an extent, ',' and a shape, or ']'"),
        ("x:float(3)y:float(4)", 1, 11, "a space before the next element, or the end of the line"),
        ("x:float(3) y:float(4", 1, 21, "',' and a shape, or ')'; found the end of the line"),
        ("x:float(3) x:half(2)", 1, 12, "another element than 'x', which is given already"),
        ("x:float(2*3) batch=2", 1, 20, "a number from 0 to 1"),
        ("x:float(2*3) batch=x", 1, 20, "the number of an axis, or 'none'; found 'x'"),
        ("x:int64() batch=0", 1, 17, "'none', as a scalar has no axes"),
        ("x:float(3) batch=0 batch=0", 1, 20, "'batch=' once"),
        ("x:int64() value=", 1, 17, "a number; found the end of the line"),
        ("x:int64() value=1e999", 1, 17, "a number; found '1e999'"),
        ("x:int64(1*2) value=[1,2", 1, 24, "',' and a value, or ']'"),
        ("x:int64(1*2) value=[1,2,3]", 1, 27, "1 value before, or 2, one for each element"),
        ("[x]:float(3)", 1, 1, "the name of an input"),
        ("x[]:float(3)", 1, 3, "an index, a key or the tensor's name"),
        ("x(a):float(3)", 1, 3, "the index of a tuple's item"),
        ("x[a b]:float(3)", 1, 5, "']'"),
        ("x\0:float(3)", 1, 2, "'[', '(' or ':' and the dtype; found '\\x00:float(3)'"),
        ("x['\x7f']:float(3)", 1, 3, "a key in single quotes, closed on its line"),
        ("x['a]:float(3)", 1, 3, "a key in single quotes, closed on its line"),
        ("x" + "[0]" * 17 + ":float(3)", 1, 50, "nest at most 16 deep"),
        ("x:float(1)\n  x:half(2)", 2, 3, "another element than 'x', which is given already"),
        ("x:float(1)\nx[0]:half(2)", 2, 1, "a tensor as in a line before; found a list: x[0]"),
        ("x[0]:float(1)\nx(1):half(2)", 2, 1, "a list as in a line before; found a tuple: x(1)"),
        ("y:bool(1)\nx(0):float(1)\nx(2):half(2)", 3, 1, "item 1 of the tuple beside item 2; it is missing"),
        ("\n".join(f"x{n}:bool(1)" for n in range(65)), 65, 1, "at most 64 elements, found 65"),
        (f"x:bool([{','.join(map(str, range(100, 229)))}])", 1, 520, "']', for a set holds at most 128 shapes"),
    ],
)
def test_mistakes_have_line_column_and_what_was_expected(text: str, line: int, column: int, sentence: str) -> None:
    found = failure_of(text)
    assert found[:2] == (line, column)
    assert sentence in found[2]
