"""Preprocessing steps: their effect on pixels and on positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.imaging import Geometry, Steps, as_input, steps_for

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def size(height: int, width: int) -> dict[str, int]:
    return {"height": height, "width": width}


def tensor(
    *extents: int, dtype: str = "float32", low: tuple[int, ...] = (), high: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {"name": "x", "dtype": dtype, "shape": {"min": low or extents, "opt": extents, "max": high or extents}}


def refused(*words: str) -> Any:
    return pytest.raises(EngineFailure, match=".*".join(words))


def test_steps_run_in_the_order_given() -> None:
    steps = Steps.parse([{"centercrop": size(10, 12)}, {"cvtRGB": True}, {"transpose": {"order": [2, 0, 1]}}])
    np.testing.assert_array_equal(steps.apply(IMAGE), IMAGE[5:15, 9:21, ::-1].transpose(2, 0, 1))
    turned = Steps.parse([{"transpose": {"order": [2, 0, 1]}}, {"cvt_rgb": True}, {"centercrop": size(10, 12)}])
    np.testing.assert_array_equal(turned.apply(IMAGE), steps.apply(IMAGE))
    assert Steps.parse([{"cvt_rgb": False}]).steps == ()


def test_a_batch_axis_in_the_order_is_understood() -> None:
    steps = Steps.parse([{"transpose": {"order": [0, 3, 1, 2]}}])
    np.testing.assert_array_equal(steps.apply(IMAGE), IMAGE.transpose(2, 0, 1))


def test_resize_is_exact_and_smooth() -> None:
    assert Steps.parse([{"resize": size(7, 11)}]).apply(IMAGE).shape == (7, 11, 3)
    flat = np.full((90, 90, 3), 77, np.uint8)
    assert (Steps.parse([{"resize": size(31, 17)}]).apply(flat) == 77).all()
    # Every pixel of a large image counts: a checkerboard turns grey.
    board = np.indices((64, 64)).sum(0)[:, :, None].repeat(3, 2) % 2 * 255
    assert abs(int(Steps.parse([{"resize": size(8, 8)}]).apply(board.astype(np.uint8)).mean()) - 127) <= 1


def test_a_crop_larger_than_the_image_is_filled_with_black() -> None:
    cropped = Steps.parse([{"centercrop": size(24, 10)}]).apply(IMAGE)
    np.testing.assert_array_equal(cropped[2:22], IMAGE[:, 10:20])
    assert not cropped[:2].any()
    assert not cropped[22:].any()


def test_equal_resize_keeps_the_ratio_and_pads_the_rest() -> None:
    resized = Steps.parse([{"equal_resize": size(60, 60)}]).apply(np.full((20, 30, 3), 9, np.uint8))
    assert (resized[10:50] == 9).all()
    assert (resized[:10] == 114).all()
    assert (resized[50:] == 114).all()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({}, ["step 2", "cvtRGB"]),
        ({"blur": {}}, ["step 2", "blur"]),
        ({"resize": {"height": 0, "width": 3}}, ["step 2", "height", "0"]),
        ({"resize": {"height": 3}}, ["step 2", "width", "None"]),
        ({"centercrop": 5}, ["step 2", "height"]),
        ({"transpose": {"order": [0, 1]}}, ["step 2", "0, 1"]),
        ({"transpose": {"order": [3, 0, 1, 2]}}, ["step 2"]),
        ({"transpose": {}}, ["step 2"]),
    ],
)
def test_invalid_steps_are_named(step: dict[str, Any], words: list[str]) -> None:
    with refused(*words) as caught:
        Steps.parse([{"resize": size(3, 3)}, step])
    assert caught.value.reason is FailureReason.INVALID_SPEC


sizes = st.builds(size, st.integers(4, 60), st.integers(4, 60))
sized = st.sampled_from(["resize", "centercrop", "equal_resize"])
moves = st.lists(st.tuples(sized, sizes).map(lambda pair: {pair[0]: pair[1]}), max_size=3)
wide = st.lists(
    st.tuples(sized, st.builds(size, st.integers(24, 60), st.integers(24, 60))).map(lambda pair: {pair[0]: pair[1]}),
    max_size=3,
)
orders = st.permutations([0, 1, 2]).map(lambda order: {"transpose": {"order": list(order)}})


def on_input(geometry: Geometry, boxes: Any) -> Any:
    """Return boxes (n, 4) of the image in pixels of the input: the reverse of `Geometry.to_image`."""
    scales, offsets = [geometry.scale_x, geometry.scale_y] * 2, [geometry.offset_x, geometry.offset_y] * 2
    placed = boxes * np.array(scales) + offsets
    return placed[:, [1, 0, 3, 2]] if geometry.turned else placed


@given(moves, orders, st.integers(5, 50), st.integers(5, 50))
def test_positions_map_to_the_input_and_back(steps: list[Any], order: Any, height: int, width: int) -> None:
    geometry = Steps.parse([*steps, order]).geometry(height, width)
    boxes = np.array([[0, 0, width, height], [1.5, 2, 4.25, 4.5]])
    np.testing.assert_allclose(geometry.to_image(on_input(geometry, boxes)), boxes, atol=1e-9)


@settings(max_examples=50)
@given(wide, orders, st.data())
def test_geometry_predicts_the_position_of_pixels(steps: list[Any], order: Any, data: st.DataObject) -> None:
    """A bright square is at the predicted position on the input, as long as the steps keep it whole."""
    image = np.zeros((48, 64, 3), np.uint8)
    left, top = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 24))
    image[top : top + 16, left : left + 16] = 255
    channel = order["transpose"]["order"].index(2)
    # A margin that one step adds does not bring back what an earlier one cropped.
    for count in range(len(steps) + 1):
        parsed = Steps.parse([*steps[:count], order])
        [x1, y1, x2, y2] = on_input(parsed.geometry(48, 64), np.array([[left, top, left + 16, top + 16]]))[0]
        plane = np.moveaxis(parsed.apply(image), channel, 2)[:, :, 0].astype(float)
        y, x = int((y1 + y2) / 2), int((x1 + x2) / 2)
        if not (1 <= x < plane.shape[1] - 1 and 1 <= y < plane.shape[0] - 1 and min(x2 - x1, y2 - y1) > 6):
            break
        assert plane[y, x] > 200


def test_boxes_stay_inside_the_image() -> None:
    geometry = Steps.parse([{"equal_resize": size(60, 60)}]).geometry(20, 30)
    assert on_input(geometry, np.array([[0, 0, 30, 20]])).tolist() == [[0, 10, 60, 50]]
    assert geometry.to_image([[-9, 0, 80, 60]]).tolist() == [[0, 0, 30, 20]]
    assert geometry.to_image([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("extents", "shape"), [((1, 3, 8, 9), (3, 8, 9)), ((1, 8, 9, 3), (8, 9, 3)), ((1, 3, 8, 1), (3, 8, 1))]
)
def test_the_default_brings_an_image_to_the_input(extents: tuple[int, ...], shape: tuple[int, ...]) -> None:
    target = tensor(*extents)
    for color in ("RGB", "BGR"):
        made = as_input(steps_for(target, color).apply(IMAGE), target)
        assert made.shape == shape
        assert made.dtype == np.float32
    red = np.zeros((5, 5, 3), np.uint8)
    red[:, :, 2] = 200
    first = as_input(steps_for(target, "RGB").apply(red), target)
    channels = first if extents[1] == 3 else first.transpose(2, 0, 1)
    assert channels.max(axis=(1, 2)).tolist() == [200, 0, 0]


@pytest.mark.parametrize("extents", [(4, 1, 8, 9), (4, 8, 9, 1), (4, 8, 9)])
def test_one_channel_takes_grey(extents: tuple[int, ...]) -> None:
    target = tensor(*extents, dtype="uint8")
    color = np.zeros((8, 9, 3), np.uint8)
    color[:, :] = (10, 20, 30)
    for steps in (steps_for(target), Steps.parse([{"cvtRGB": True}, {"resize": size(8, 9)}], target)):
        made = as_input(steps.apply(color), target)
        assert made.shape == extents[1:]
        assert set(made.ravel().tolist()) == {round(0.114 * 10 + 0.587 * 20 + 0.299 * 30)}


def test_free_axes_take_the_optimal_size() -> None:
    target = tensor(1, 3, 8, 9, low=(1, 3, 4, 4), high=(8, 3, 64, 64))
    assert as_input(steps_for(target).apply(IMAGE), target).shape == (3, 8, 9)
    explicit = Steps.parse([{"resize": size(33, 64)}, {"transpose": {"order": [2, 0, 1]}}], target)
    assert as_input(explicit.apply(IMAGE), target).shape == (3, 33, 64)


@pytest.mark.parametrize("extents", [(1, 77), (1, 4, 8, 8), (1, 3, 4, 8, 8), ()])
def test_an_input_that_takes_no_images_is_rejected(extents: tuple[int, ...]) -> None:
    with refused("input 'x'", "not an image") as caught:
        steps_for(tensor(*extents))
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize(
    ("array", "target", "words"),
    [
        (IMAGE, tensor(1, 3, 20, 30), ["20\\*30\\*3", "N\\*3\\*20\\*30"]),
        (IMAGE, tensor(1, 3, 8, 8, low=(1, 3, 4, 4), high=(1, 3, 9, 9)), ["N\\*3\\*\\[4..9\\]\\*\\[4..9\\]"]),
        (np.ones(3), tensor(1, 3, dtype="int64"), ["float64", "int64"]),
        (np.array([300]), tensor(1, 1, dtype="uint8"), ["range of uint8"]),
        (np.ones(3), tensor(1, 3, dtype="bfloat16"), ["bfloat16"]),
    ],
)
def test_a_sample_that_does_not_fit_is_rejected(array: Any, target: dict[str, Any], words: list[str]) -> None:
    with refused("'x'", *words) as caught:
        as_input(array, target)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_samples_are_cast_to_the_input() -> None:
    assert as_input(np.array([1, 2], np.int64), tensor(1, 2, dtype="int32")).dtype == np.int32
    assert as_input(np.array([1, 2], np.int64), tensor(1, 2)).dtype == np.float32
    assert as_input(np.array(2.5), tensor(8)).shape == ()
    assert as_input(np.ones((1, 5)), tensor(1, 5)).shape == (5,)
    assert as_input(np.ones((4, 2)), {"name": "x", "dtype": "float32"}).shape == (4, 2)
