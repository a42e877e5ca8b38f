"""Relative errors between tensors, which parity and the check for stateful networks share."""

import math

import numpy as np
import pytest

from engines.tensors import Array
from engines.tensors.errors import finite_pairs, tensor_error

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        (np.array([1.0, -4.0]), np.array([2.0, -4.0]), 0.25),
        (np.array([3, 1]), np.array([3, 4]), 1.0),
        (np.zeros(2), np.zeros(2), 0.0),
        (np.zeros(2), np.ones(2), INF),
        (np.zeros(2), np.zeros(3), INF),
        (np.zeros(0), np.zeros(0), 0.0),
        (np.array([NAN, INF, 1.0]), np.array([NAN, INF, 1.0]), 0.0),
        (np.array([INF, 1.0]), np.array([-INF, 1.0]), INF),
        (np.array([b"a", "b"], object), np.array(["a", "b"]), 0.0),
        (np.array(["a", "b"]), np.array(["a", "c"]), INF),
    ],
)
def test_error_is_relative_to_the_largest_source_element(source: Array, target: Array, error: float) -> None:
    assert tensor_error(source, target) == error


def test_elements_that_are_not_finite_are_counted_apart() -> None:
    pairs = finite_pairs(np.array([[NAN, INF], [1.0, 2.0]]), np.array([[NAN, -INF], [1.0, 3.0]], np.float32))
    assert (pairs.matching, pairs.differing) == (1, 1)
    assert (pairs.source.tolist(), pairs.target.tolist()) == ([1.0, 2.0], [1.0, 3.0])
