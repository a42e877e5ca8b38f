"""Shared by all methods: types, the failure, and access to outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Outputs = Mapping[str, Any]
Args = Mapping[str, Any]
Taxonomies = Sequence[Mapping[str, Any]]
Size = tuple[int, int] | None


class OutputMismatch(ValueError):  # noqa: N818 - named as the API names it
    """Outputs that do not fit the method; the message tells what was expected."""


def output(outputs: Outputs, name: str, role: str) -> Any:
    """Return the output of a name; raises `OutputMismatch` if it does not exist."""
    if name not in outputs:
        raise OutputMismatch(f"an output of {role} named '{name}' is expected")
    return outputs[name]


def sigmoid(values: Any) -> Any:
    """Return the logistic function of values, without overflow."""
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))


def input_size(extents: Sequence[int], *, nv12: bool = False) -> Size:
    """Return height and width of an image input, N*C*H*W, N*H*W*C or N*H*W; None for any other shape.

    Args:
        extents: The shape.
        nv12: Whether it takes NV12 images, N*3H/2*W.
    """
    if nv12:
        return extents[1] * 2 // 3, extents[2]
    if len(extents) == 3:
        return extents[1], extents[2]
    if len(extents) != 4:
        return None
    return (extents[2], extents[3]) if extents[1] in {1, 3} else (extents[1], extents[2])
