"""Arguments of an optimized model: converted to its element types only if no value is lost."""

import numpy as np
import pytest

from engines.api.callables import _fitting
from engines.failures import EngineFailure
from engines.package.manifest import Tensor


def tensor(dtype: str) -> Tensor:
    return Tensor.model_validate({"name": "x", "dtype": dtype, "shape": {"min": [2], "opt": [2], "max": [2]}})


def test_values_that_a_type_can_hold_are_converted() -> None:
    assert _fitting(tensor("int8"), np.array([-128, 127])).tolist() == [-128, 127]
    assert _fitting(tensor("float32"), np.array([1, 2])).dtype == np.float32


def test_integers_that_a_type_cannot_hold_are_refused() -> None:
    with pytest.raises(EngineFailure, match="takes int8, which cannot hold all of the given values"):
        _fitting(tensor("int8"), np.array([1, 300]))


def test_numbers_are_not_taken_for_text() -> None:
    with pytest.raises(EngineFailure, match=", not int64 2"):
        _fitting(tensor("string"), np.array([1, 2]))
