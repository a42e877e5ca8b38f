"""Axes that a graph leaves open: from samples, the batch by default, else a message asks for them."""

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.spec.open_axes import batch_axes, settle
from engines.spec.template import Component
from engines.tensors.inputs import package_inputs
from engines.tensors.shapes import OPEN_EXTENT, Shape
from engines.tensors.signature import TensorSpec
from engines.tensors.text import parse

NET = Component(name="net")


def spec(name: str, *axes: int | str, dtype: str = "float32") -> TensorSpec:
    """Return an input; a word is an open axis of that name, and `?` an open axis without one."""
    low = tuple(axis if isinstance(axis, int) else 1 for axis in axes)
    high = tuple(axis if isinstance(axis, int) else OPEN_EXTENT for axis in axes)
    names = tuple("" if isinstance(axis, int) or axis == "?" else axis for axis in axes)
    return TensorSpec(name, dtype, low, low, high, axis_names=names if any(names) else ())


IDS = spec("ids", "batch", "sequence", dtype="int64")
VOICE = (spec("input", "batch", "sequence"), spec("state", 2, "batch", 128), spec("sr", dtype="int64"))


def shapes_of(inputs: tuple[TensorSpec, ...], samples: dict[str, Shape]) -> dict[str, Shape]:
    return {given.name: given.shape for given in settle(NET, inputs, samples).component.inputs}


def test_open_axes_without_an_extent_are_refused_with_what_to_type() -> None:
    with pytest.raises(EngineFailure) as caught:
        settle(NET, (IDS, spec("image", "?", 3, "?", "?")), {})
    assert caught.value.reason is FailureReason.INVALID_SPEC
    for words in ("axis 1 of 'ids' (sequence)", "axis 2 of 'image'", "axis 3 of 'image'"):
        assert words in caught.value.message
    assert "axis 0" not in caught.value.message
    text = caught.value.suggested_fix.partition("--tensor-information '")[2].partition("'")[0]
    assert [(element.name, element.shapes.opt) for element in parse(text)] == [
        ("ids", (1, 128)),
        ("image", (1, 3, 224, 224)),
    ]


def test_an_open_batch_becomes_one_with_a_warning() -> None:
    component, warnings = settle(NET, (spec("x", "batch", 4), spec("y", "?", 2)), {})
    assert [given.shape for given in component.inputs] == [(1, 4), (1, 2)]
    (words,) = warnings
    assert "'x', 'y'" in words
    assert "max_batch of component 'net'" in words
    assert settle(NET.model_copy(update={"max_batch": 8}), (spec("x", "batch", 4),), {}).warnings == ()
    assert settle(NET, (spec("x", 1, 4),), {}).warnings == ()


def test_samples_give_the_extents_and_count_along_the_batch() -> None:
    assert shapes_of((IDS,), {"ids": (5, 7)}) == {"ids": (1, 7)}
    assert shapes_of(VOICE, {"input": (3, 576), "state": (2, 3, 128), "sr": ()}) == {
        "input": (1, 576),
        "state": (2, 1, 128),
        "sr": (),
    }
    frames = (spec("x", "frames", 8), spec("h", 1, 1, 4))
    assert shapes_of(frames, {"x": (30, 8), "h": (1, 1, 4)}) == {"x": (30, 8), "h": (1, 1, 4)}
    for wrong in ((5, 7, 1), (0, 7)):
        with pytest.raises(EngineFailure, match=r"the graph takes any \(batch\)\*any \(sequence\)"):
            settle(NET, (IDS,), {"ids": wrong})


def test_a_batch_axis_is_found_by_its_name() -> None:
    assert batch_axes(VOICE) == {"input": 0, "state": 1}
    assert batch_axes((spec("x", "?", 4), spec("y", "?", 4))) == {"x": 0, "y": 0}
    assert batch_axes((spec("x", "frames", 8), spec("h", 1, 1, 4))) == {}
    assert batch_axes((spec("x", "batch", "length"), spec("mask", "length", "batch"))) == {}
    component, _ = settle(NET.model_copy(update={"max_batch": 4}), VOICE, {"input": (1, 576)})
    ends = {given.name: (given.min, given.max) for given in package_inputs(component.inputs, 4)}
    assert ends == {"input": ((1, 576), (4, 576)), "state": ((2, 1, 128), (2, 4, 128)), "sr": ((), ())}
