"""Constants in half precision: cast once, and checked for values that the type cannot hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import numpy as np

from engines.failures import EngineFailure, FailureReason

_LARGEST = 65504.0
"""Largest finite value of IEEE 754 binary16."""
_LOST = 2.0**-25
"""Values up to this one are rounded to zero in binary16."""


class Range(Enum):
    """Whether values fit into half precision."""

    FITS = "fits"
    WIDE = "wide"
    TINY = "tiny"


@dataclass(frozen=True)
class HalfType:
    """A half-precision type.

    Attributes:
        precision: As the API names it.
        element: Element type of TensorProto.
        type: As operator schemas write it.
    """

    precision: str
    element: int
    type: str

    @classmethod
    def of(cls, precision: str) -> Self:
        """Return the type of FP16 or BF16.

        Raises:
            EngineFailure: UNSUPPORTED_PRECISION for any other.
        """
        import onnx

        if precision == "FP16":
            return cls(precision, onnx.TensorProto.FLOAT16, "tensor(float16)")
        if precision == "BF16":
            return cls(precision, onnx.TensorProto.BFLOAT16, "tensor(bfloat16)")
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"{precision} is no half precision; there are FP16 and BF16.",
        )

    def cast(self, tensor: Any, name: str) -> Any:
        """Return a float32 tensor in this type, rounded to the nearest finite value, ties to even."""
        import ml_dtypes
        import onnx

        array = onnx.numpy_helper.to_array(tensor)
        target: Any = np.float16
        if self.precision == "BF16":  # float32's largest values, common in masks, would round up to infinity
            target, largest = ml_dtypes.bfloat16, np.float32(2.0**128 - 2.0**120)
            array = np.where(np.isfinite(array), np.clip(array, -largest, largest), array)
        return onnx.helper.make_tensor(name, self.element, array.shape, array.astype(target).tobytes(), raw=True)

    def range_of(self, tensor: Any) -> Range:
        """Return whether a constant fits: finite values that would become infinite, or a scalar that becomes zero.

        Infinities stay. Zeros among a parameter's many values are rounding; a lone one is an epsilon. BF16 has the
        range of float32.
        """
        import onnx

        if self.precision == "BF16":
            return Range.FITS
        array = np.abs(onnx.numpy_helper.to_array(tensor))
        finite = array[np.isfinite(array)]
        if finite.size and float(finite.max()) > _LARGEST:
            return Range.WIDE
        lone = array.size == 1 and 0 < float(array.reshape(())) <= _LOST
        return Range.TINY if lone else Range.FITS


def is_matrix(tensor: Any) -> bool:
    """Return whether a tensor has more than one element along two axes, like the parameters of layers."""
    dims = [int(extent) for extent in tensor.dims]
    return math.prod(dims) > 0 and sum(extent > 1 for extent in dims) >= 2
