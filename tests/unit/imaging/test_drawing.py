"""Drawn images are crisp, coloured by class and readable."""

from __future__ import annotations

import numpy as np
import pytest

from engines.imaging import DrawnBox, decode, draw
from engines.imaging.drawing import _PALETTE, _colors

GREY = np.full((40, 40, 3), 90, np.uint8)


def test_small_images_grow_by_a_whole_factor_and_stay_crisp() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    drawn = decode(draw(image))
    assert drawn.shape == (28 * 12, 28 * 12, 3)
    np.testing.assert_array_equal(drawn[::12, ::12], image)
    np.testing.assert_array_equal(drawn[11::12, 11::12], image)


@pytest.mark.parametrize(("side", "expected"), [(1, 16), (319, 638), (320, 320), (500, 500)])
def test_sizes(side: int, expected: int) -> None:
    assert decode(draw(np.zeros((side, side, 3), np.uint8))).shape[:2] == (expected, expected)


def test_a_box_is_outlined_where_it_is() -> None:
    drawn = decode(draw(GREY, [DrawnBox("", 10, 20, 15, 10)]))
    changed = np.argwhere((drawn != 90).any(axis=2))
    assert changed.min(axis=0).tolist() == [20 * 8, 10 * 8]
    assert changed.max(axis=0).tolist() == [30 * 8 - 1, 25 * 8 - 1]
    inside = drawn[20 * 8 + 2 : 30 * 8 - 2, 10 * 8 + 2 : 25 * 8 - 2]
    assert (inside == 90).all()
    red, green, blue = _PALETTE[0]
    assert drawn[20 * 8, 10 * 8].tolist() == [blue, green, red]


def test_dashed_boxes_have_gaps() -> None:
    solid, dashed = (decode(draw(GREY, [DrawnBox("", 5, 5, 30, 30, dashed=kind)])) for kind in (False, True))
    counts = [(drawn != 90).any(axis=2).sum() for drawn in (solid, dashed)]
    assert 0.3 * counts[0] < counts[1] < 0.8 * counts[0]


def test_classes_have_colours_of_their_own_and_keep_them() -> None:
    labels = [str(number) for number in range(80)]
    assert len(set(_colors(labels).values())) == 80
    boxes = [DrawnBox("b", 1, 1, 30, 30)]
    alone, among = decode(draw(GREY, boxes)), decode(draw(GREY, boxes, classes=["a", "b"]))
    assert (alone != among).any()


def test_labels_stay_on_the_image_and_captions_go_under_it() -> None:
    drawn = decode(draw(GREY, [DrawnBox("a long label", 35, 0, 5, 5, 0.5), DrawnBox("日本", 0, 38, 2, 2)]))
    assert drawn.shape == (320, 320, 3)
    captioned = decode(draw(GREY, caption=["digit: 7", "scene: night"]))
    assert captioned.shape[1] == 320
    assert captioned.shape[0] > 320 + 2 * 13
    np.testing.assert_array_equal(captioned[:320], 90)
    # Attributes are anybody's text: of a million letters or of several lines, a caption stays one line each.
    long = decode(draw(GREY, caption=["digit: " + "7" * 2_000_000, "scene:\nnight"]))
    assert long.shape == captioned.shape


def test_boxes_beyond_the_image_do_no_harm() -> None:
    for box in (
        DrawnBox("a", -50, -50, 10, 10),
        DrawnBox("b", 90, 90, 9, 9),
        DrawnBox("c", 3, 3, 0, 0),
        DrawnBox("d" * 99, 0, 0, 40, 40),
    ):
        assert decode(draw(GREY, [box])).shape == (320, 320, 3)
