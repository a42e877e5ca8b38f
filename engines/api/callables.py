"""The optimized model as something that is called as its source was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from engines.api.convention import Convention
from engines.api.structure import filled
from engines.api.test_data import array_of
from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, Tensor
from engines.package.opening import component_session
from engines.spec.toolchain import available_threads
from engines.tensors import Array, Arrays
from engines.tensors.shapes import format_extents


@dataclass(frozen=True)
class OpenPackage:
    """A package whose components are opened.

    Attributes:
        directory: The package.
        manifest: Its manifest.
        keep: Lives as long as the models: the temporary directory of the package.
    """

    directory: Path
    manifest: Manifest
    keep: object


class OptimizedModel(ABC):
    """An optimized model, open in this process; it is called as its source was. A context manager that closes it.

    Attributes:
        directory: The package that it was opened from.
        runtime: Name of its runtime.
        precision: Arithmetic that it computes in.
        inputs: Names of its inputs, in the order of its arguments.
        outputs: Names of its outputs.
    """

    def __init__(self, package: OpenPackage, component: ComponentEntry) -> None:
        """Open a component of a package."""
        form = package.manifest.form_of(component)
        self.directory, self._package = package.directory, package
        self.runtime, self.precision = form.runtime.name, form.precision
        self._tensors = component.signature.inputs
        self.inputs = tuple(tensor.name for tensor in self._tensors)
        self.outputs = tuple(tensor.name for tensor in component.signature.outputs)
        self._session = component_session(package.directory, package.manifest, component, available_threads())

    @abstractmethod
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Compute the outputs."""

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name.

        Raises:
            EngineFailure: INVALID_SPEC if an input is missing or unknown, SHAPE_MISMATCH if one does not fit.
        """
        if set(inputs) != set(self.inputs):
            given = ", ".join(map(str, inputs)) or "none"
            raise _wrong(f"The model takes the inputs {', '.join(self.inputs)}, not {given}.")
        return self._session.run({tensor.name: _fitting(tensor, inputs[tensor.name]) for tensor in self._tensors})

    def close(self) -> None:
        """Release the runtime, its threads and its memory. A closed model computes nothing."""
        self._session.close()

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Return its class, form and inputs."""
        takes = ", ".join(f"{tensor.name}: {tensor.dtype} {_extents(tensor)}" for tensor in self._tensors)
        return f"<{type(self).__name__}: {self.runtime} {self.precision}, takes {takes}>"


class OptimizedModule(OptimizedModel):
    """Takes torch tensors and returns tensors in the structure that the source's module returns."""

    def __init__(self, package: OpenPackage, component: ComponentEntry, convention: Convention, structure: Any) -> None:
        """Open a component.

        Args:
            package: The package.
            component: Which component.
            convention: How the module is called.
            structure: Structure of its result.
        """
        super().__init__(package, component)
        self._convention, self._structure = convention, structure

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Compute the outputs, without gradients."""
        given = self._convention.values(arguments, named)
        values = self.run(dict(zip(self.inputs, map(array_of, given), strict=True)))
        return filled(self._structure, (_tensor(values[name]) for name in self.outputs))


class OptimizedGraph(OptimizedModel):
    """Takes arrays, by position, by name or in one dictionary; returns one, or a tuple if there are several outputs.

    Called with torch tensors, it returns torch tensors.
    """

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Compute the outputs."""
        by_name = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], Mapping) else None
        positional = arguments if by_name is None else ()
        given = Convention.flat(self.inputs).values(positional, {**(by_name or {}), **named})
        values = self.run(dict(zip(self.inputs, map(array_of, given), strict=True)))
        as_given = _tensor if any(hasattr(value, "detach") for value in given) else np.asarray
        found = tuple(as_given(values[name]) for name in self.outputs)
        return found[0] if len(found) == 1 else found


def _tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(np.asarray(array, order="C"))


def _fitting(tensor: Tensor, array: Array) -> Array:
    """Return an input in its element type; refuse one of another type or shape.

    Raises:
        EngineFailure: SHAPE_MISMATCH with the expected type and shape; INVALID_SPEC for integers that do not fit.
    """
    dtype = np.dtype(np.str_ if tensor.dtype == "string" else tensor.dtype)
    fits = np.can_cast(array.dtype, dtype, "same_kind") and (array.dtype.kind == "U") == (dtype.kind == "U")
    if tensor.shape is not None:
        ends = zip(tensor.shape.min, array.shape, tensor.shape.max, strict=False)
        fits = fits and array.ndim == len(tensor.shape.max) and all(low <= n <= high for low, n, high in ends)
    if not fits:
        shape = " * ".join(map(str, array.shape)) or "scalar"
        raise EngineFailure(
            FailureReason.SHAPE_MISMATCH,
            f"The input '{tensor.name}' takes {dtype} {_extents(tensor)}, not {array.dtype} {shape}.",
            suggested_fix="Optimize for the shapes that you need: input_shapes takes ranges and sets of shapes.",
        )
    made = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(made, array):
        raise _wrong(f"The input '{tensor.name}' takes {dtype}, which cannot hold all of the given values.")
    return made


def _extents(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "of any shape"
    return format_extents(tensor.shape.min, tensor.shape.max).replace("*", " * ")


def _wrong(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
