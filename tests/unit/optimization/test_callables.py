"""What an optimized model makes of its arguments: nothing is brought to another type that loses its value."""

import numpy as np
import pytest

from engines.api.callables import _fitting
from engines.failures import EngineFailure
from engines.package.manifest import Tensor


def tensor(dtype: str) -> Tensor:
    return Tensor.model_validate({"name": "x", "dtype": dtype, "shape": {"min": [2], "opt": [2], "max": [2]}})


def test_what_a_type_holds_is_brought_to_it() -> None:
    assert _fitting(tensor("int8"), np.array([-128, 127])).tolist() == [-128, 127]
    assert _fitting(tensor("float32"), np.array([1, 2])).dtype == np.float32


def test_integers_that_a_type_does_not_hold_are_refused() -> None:
    with pytest.raises(EngineFailure, match="takes int8, which does not hold all of the given values"):
        _fitting(tensor("int8"), np.array([1, 300]))


def test_numbers_are_not_taken_for_text() -> None:
    with pytest.raises(EngineFailure, match="given was int64 2"):
        _fitting(tensor("string"), np.array([1, 2]))
