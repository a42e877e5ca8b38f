"""Errors between two tensors, relative to the scale of the first; the parity check builds on them."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np

from engines.tensors import Array


class FinitePairs(NamedTuple):
    """Elements of two tensors in float64, without those that are NaN or infinite on either side.

    Attributes:
        source: Finite elements of the first.
        target: Their counterparts.
        matching: Elements that are NaN on both sides, or infinite with the same sign.
        differing: Elements that are not finite on at least one side and do not match.
    """

    source: Array
    target: Array
    matching: int = 0
    differing: int = 0


def finite_pairs(source: Array, target: Array) -> FinitePairs:
    """Return the finite elements of two tensors of one shape, and how the others compare."""
    s, t = (np.asarray(array, dtype=np.float64).ravel() for array in (source, target))
    finite = np.isfinite(s) & np.isfinite(t)
    if finite.all():
        return FinitePairs(s, t)
    a, b = s[~finite], t[~finite]
    matching = int(((a == b) | (np.isnan(a) & np.isnan(b))).sum())
    return FinitePairs(s[finite], t[finite], matching, a.size - matching)


def unequal_texts(source: Array, target: Array) -> int:
    """Return how many elements of two tensors of text differ."""
    return sum(map(operator.ne, _texts(source), _texts(target)))


def relative_error(error: float, scale: float) -> float:
    """Return an absolute error relative to a scale: 0 without an error, infinite if only the scale is 0."""
    if not error:
        return 0.0
    return error / scale if scale else math.inf


def tensor_error(source: Array, target: Array) -> float:
    """Return the largest relative error of a tensor; infinite if shapes, texts or non-finite elements differ."""
    if source.shape != target.shape:
        return math.inf
    if source.dtype.kind in "OSU":
        return math.inf if unequal_texts(source, target) else 0.0
    pairs = finite_pairs(source, target)
    if pairs.differing:
        return math.inf
    difference = np.abs(pairs.target - pairs.source)
    return relative_error(float(difference.max(initial=0.0)), float(np.abs(pairs.source).max(initial=0.0)))


def _texts(array: Array) -> list[str]:
    """Return elements as text: TensorFlow gives UTF-8 bytes, ONNX Runtime text."""
    values = array.reshape(-1).tolist()
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
