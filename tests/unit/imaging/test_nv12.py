"""NV12 images: the equations, held to other implementations, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.failures import EngineFailure
from engines.imaging import Nv12, Steps, steps_for
from engines.imaging.nv12 import planes

COLORS = [Nv12(wide, matrix) for wide in (False, True) for matrix in ("BT601", "BT709")]
SEEDS = st.integers(0, 2**32 - 1)
TENSOR = {"name": "x", "dtype": "uint8", "shape": {"min": [1, 12, 10], "opt": [1, 12, 10], "max": [4, 12, 10]}}


def noise(seed: int, height: int = 8, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, height * 3 // 2, width)).astype(np.uint8)


@given(SEEDS)
@settings(max_examples=40)
def test_narrow_range_is_within_rounding_of_opencv(seed: int) -> None:
    import cv2

    images = noise(seed)
    images[:, :8] = images[:, :8].clip(16)  # OpenCV takes luma below black for black, whatever its chroma
    for order, code in (("RGB", cv2.COLOR_YUV2RGB_NV12), ("BGR", cv2.COLOR_YUV2BGR_NV12)):
        expected = np.stack([cv2.cvtColor(image, code).transpose(2, 0, 1) for image in images])
        np.testing.assert_allclose(Nv12().decode(images, order), expected, atol=1.0)


@given(SEEDS)
@settings(max_examples=40)
def test_wide_range_is_within_rounding_of_pillow(seed: int) -> None:
    from PIL import Image

    images = noise(seed)
    for found, yuv in zip(Nv12(wide=True).decode(images, "RGB"), planes(images), strict=True):
        expected = Image.merge("YCbCr", [Image.fromarray(plane) for plane in yuv]).convert("RGB")
        np.testing.assert_allclose(found.transpose(1, 2, 0), np.asarray(expected), atol=1.0)


@pytest.mark.parametrize("colors", COLORS, ids=str)
def test_greys_keep_their_level_and_primaries_their_channel(colors: Nv12) -> None:
    red, blue = {"BT601": (0.299, 0.114), "BT709": (0.2126, 0.0722)}[colors.matrix]
    low, span = (0, 255) if colors.wide else (16, 219)
    for rgb in ((0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 0, 0), (0, 255, 0), (0, 0, 255)):
        image = np.full((2, 2, 3), rgb, np.uint8)
        encoded = colors.encode(image, "RGB")
        luma = low + span / 255 * np.dot([red, 1 - red - blue, blue], rgb)
        assert abs(encoded[0, 0] - luma) <= 0.5
        decoded = colors.decode(encoded[None], "BGR")[0, ::-1].transpose(1, 2, 0)
        np.testing.assert_allclose(decoded, image, atol=2.0)


@given(SEEDS, st.sampled_from(COLORS))
@settings(max_examples=30)
def test_smooth_images_survive_being_encoded(seed: int, colors: Nv12) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (4, 3, 3)).astype(np.uint8)
    image = small.repeat(2, 0).repeat(2, 1)  # chroma is constant where NV12 shares it
    decoded = colors.decode(colors.encode(image)[None], "BGR")[0].transpose(1, 2, 0)
    np.testing.assert_allclose(decoded, image, atol=2.5)


def test_the_layout_of_bytes_is_luma_then_u_and_v_in_turn() -> None:
    image = np.array([[[1, 2], [3, 4], [50, 60]]], np.uint8)
    assert planes(image).tolist() == [[[[1, 2], [3, 4]], [[50, 50]] * 2, [[60, 60]] * 2]]


def test_an_input_of_nv12_images_is_fed_by_resizing_and_encoding() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    steps = steps_for(TENSOR, "RGB", Nv12(wide=True))
    assert [str(step) for step in steps.steps] == [
        "resize to 8 x 10 (height x width)",
        "convert to NV12 (BT601, wide range)",
    ]
    assert steps.apply(picture).shape == (12, 10)
    own = Steps.parse([{"centercrop": {"height": 8, "width": 10}}], TENSOR, Nv12())
    np.testing.assert_array_equal(own.apply(picture), Nv12().encode(picture[6:14, 10:20]))
    geometry = own.geometry(20, 30)
    assert (geometry.width, geometry.height) == (30, 20)


@pytest.mark.parametrize("step", [{"cvtRGB": True}, {"transpose": {"order": [2, 0, 1]}}])
def test_steps_that_reorder_are_refused_for_nv12(step: dict[str, object]) -> None:
    with pytest.raises(EngineFailure, match="step 1 reorders colours or axes; for an input of NV12"):
        Steps.parse([step], TENSOR, Nv12())


def test_odd_sizes_cannot_be_nv12() -> None:
    steps = Steps.parse([{"resize": {"height": 7, "width": 10}}], TENSOR, Nv12())
    with pytest.raises(EngineFailure, match="7 by 10 pixels cannot be NV12: both sides must be even"):
        steps.apply(np.zeros((20, 30, 3), np.uint8))
