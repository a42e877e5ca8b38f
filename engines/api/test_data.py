"""The user's samples for `optimize()`: a file, arrays or tensors; by name, in order, or a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import invalid
from engines.package.payload.arrays import write_npz
from engines.spec.request import ConversionRequest
from engines.spec.source_files import TEST_DATA
from engines.tensors import Array


def write_test_data(
    conversion: ConversionRequest, test_data: Any, workdir: Path, names: Sequence[str]
) -> ConversionRequest:
    """Return the request with the user's samples, which are written into the work directory.

    Args:
        conversion: How the model is read.
        test_data: Path of an NPZ or NPY; arrays or tensors by name, in the order of the inputs, or one alone.
        workdir: The work directory.
        names: Names of the first component's inputs, in order.

    Raises:
        EngineFailure: INVALID_SPEC if it is none of these, or there are more arrays than inputs.
    """
    if test_data is None:
        return conversion
    arrays = named_arrays(test_data, names)
    target = workdir / TEST_DATA
    target.parent.mkdir(parents=True, exist_ok=True)
    write_npz(target, arrays)
    return conversion.model_copy(update={"samples_path": TEST_DATA})


def named_arrays(test_data: Any, names: Sequence[str]) -> dict[str, Array]:
    """Return test data as arrays by input.

    Raises:
        EngineFailure: INVALID_SPEC if it cannot be read as arrays.
    """
    if isinstance(test_data, str | Path):
        try:
            test_data = np.load(test_data, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise invalid(f"The test data '{test_data}' cannot be read as NPZ or NPY: {error}") from error
    if isinstance(test_data, Mapping):  # an NpzFile is one, too
        named = {f"input_{index}": name for index, name in enumerate(names)} | {name: name for name in names}
        return {named.get(str(name), str(name)): _array(value) for name, value in test_data.items()}
    values = list(test_data) if isinstance(test_data, tuple | list) else [test_data]
    if len(values) > len(names):
        raise invalid(f"The test data hold {len(values)} arrays; the model takes {len(names)}: {', '.join(names)}.")
    return {name: _array(value) for name, value in zip(names, values, strict=False)}


def _array(value: Any) -> Array:
    array = array_of(value)
    if array.dtype == object:
        raise invalid("The test data are arrays or tensors: by input, in a list in the order of the inputs, or one.")
    return array


def array_of(value: Any) -> Array:
    """Return a tensor or array-like value as an array; bfloat16, which NumPy lacks, as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array: Array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def dtypes_of(test_data: Any, names: Sequence[str]) -> dict[str, str]:
    """Return the element type of each array, by input; empty if there are no test data."""
    if test_data is None:
        return {}
    return {name: str(array.dtype) for name, array in named_arrays(test_data, names).items()}
