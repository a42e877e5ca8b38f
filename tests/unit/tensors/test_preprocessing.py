"""The channel axis, the checks, and the reference of the arithmetic of preprocessing."""

from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.tensors.preprocessing import Preprocessing, channel_axis, check_preprocessing, preprocess


def steps(mean: int = 0, scale: int = 0, *, swaps: bool = False) -> Preprocessing:
    colors: dict[str, Any] = {"input_color": "BGR", "model_color": "RGB"} if swaps else {}
    return Preprocessing(mean_values=(1.0,) * mean, scale_values=(2.0,) * scale, **colors)


@pytest.mark.parametrize(
    ("given", "shape", "axis"),
    [
        (steps(mean=3), (1, 3, 8, 8), 1),
        (steps(mean=3), (1, 8, 8, 3), 3),
        (steps(mean=1, scale=3), (1, 8, 8, 3), 3),
        (steps(swaps=True), (1, 8, 8, 3), 3),
        (steps(mean=1), (1, 8, 8, 3), 1),
        (steps(mean=1), (8,), 0),
    ],
)
def test_channels_are_second_or_last(given: Preprocessing, shape: tuple[int, ...], axis: int) -> None:
    check_preprocessing("x", given, shape)
    assert channel_axis(given, shape) == axis


@pytest.mark.parametrize(
    ("given", "shape", "words"),
    [
        (steps(mean=2), (1, 3, 8, 8), r"'x' of shape 1\*3\*8\*8 has no axis of 2 channels"),
        (steps(mean=3, scale=2), (1, 3), "for 2 and 3 channels at once"),
        (steps(mean=2, swaps=True), (1, 3), "for 2 and 3 channels at once"),
        (steps(mean=3), (3,), "no axis of 3 channels"),
        (steps(swaps=True), (1, 4), "no axis of 3 channels"),
        (Preprocessing(scale_values=(0.0,)), (1, 3), "scale value of 0"),
    ],
)
def test_preprocessing_that_does_not_fit_is_refused(given: Preprocessing, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        check_preprocessing("x", given, shape)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_reference_orders_channels_then_subtracts_then_divides() -> None:
    given = Preprocessing(mean_values=(1, 2, 3), scale_values=(1, 1, 2), input_color="BGR", model_color="RGB")
    found = preprocess(np.array([[10, 0, 0]], np.uint8), given, "float32")
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    assert found.tolist() == [[-1, -2, 3.5]]


def test_inactive_preprocessing_and_scalars() -> None:
    pixels = np.array([1, 2], np.uint8)
    assert preprocess(pixels, Preprocessing(), "float32") is pixels
    assert preprocess(np.array(5.0), steps(mean=1, scale=1), "float32").shape == ()
