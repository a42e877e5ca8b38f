"""The optimized model as something that is called as its source was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends import Array, Arrays, BuiltForm, Session, backend
from engines.direct.structure import filled
from engines.failures import EngineFailure, FailureReason
from engines.manifest import ComponentEntry, Manifest, Tensor, read_manifest

if TYPE_CHECKING:
    import torch


class OptimizedModel(ABC):
    """An optimized model, open in this process; it is called as its source was.

    Attributes:
        directory: The package that it was opened from.
        runtime: What computes it.
        precision: In which arithmetic.
        inputs: Names of its inputs, in the order of its arguments.
        outputs: Names of its outputs.
    """

    def __init__(self, directory: Path, threads: int, keep: object = None) -> None:
        """Open the first component of a package.

        Args:
            directory: The package.
            threads: Threads of the runtime.
            keep: What has to live as long as the model: the temporary directory that the package lies in.
        """
        manifest = read_manifest(directory)
        component = manifest.components[0]
        self.directory, self._keep = directory, keep
        self.runtime, self.precision = manifest.runtime.name, manifest.precision
        self._tensors = component.signature.inputs
        self.inputs = tuple(tensor.name for tensor in self._tensors)
        self.outputs = tuple(tensor.name for tensor in component.signature.outputs)
        self._most = component.max_batch
        self._session = _opened(directory, manifest, component, threads)

    @abstractmethod
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Compute the outputs."""

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name.

        Raises:
            EngineFailure: INVALID_SPEC where an input is missing or unknown, SHAPE_MISMATCH where one does not fit.
        """
        if set(inputs) != set(self.inputs):
            given = ", ".join(map(str, inputs)) or "none"
            raise _wrong(f"The model takes the inputs {', '.join(self.inputs)}; given were {given}.")
        return self._session.run({tensor.name: _fitting(tensor, inputs[tensor.name]) for tensor in self._tensors})

    def __repr__(self) -> str:
        """Say what it is."""
        takes = ", ".join(f"{tensor.name}: {tensor.dtype} {_extents(tensor)}" for tensor in self._tensors)
        return f"<{type(self).__name__}: {self.runtime} {self.precision}, takes {takes}>"

    def _named(self, positional: Sequence[Any], named: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of a call by input; `names` are those of the arguments, in order."""
        if len(positional) > len(names):
            raise _wrong(f"The model takes {len(names)} inputs ({', '.join(names)}); given were {len(positional)}.")
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names or name in given:
                what = "twice" if name in given else "and is none of its inputs"
                raise _wrong(f"The model takes {', '.join(names)}; '{name}' was given {what}.")
            given[name] = value
        return {self.inputs[names.index(name)]: value for name, value in given.items()}


class OptimizedModule(OptimizedModel):
    """Takes torch tensors and returns what the module returned: tensors, in the structure that it gave them."""

    def __init__(self, directory: Path, threads: int, names: Sequence[str], structure: Any, keep: object) -> None:
        """Open a package.

        Args:
            directory: The package.
            threads: Threads of the runtime.
            names: Names of the module's arguments, in order.
            structure: Structure of its result.
            keep: What has to live as long as the model.
        """
        super().__init__(directory, threads, keep)
        self._names, self._structure = tuple(names), structure

    def __call__(self, *arguments: torch.Tensor, **named: torch.Tensor) -> Any:
        """Compute the outputs, without gradients."""
        import torch

        given = self._named(arguments, named, self._names)
        values = self.run({name: tensor.detach().cpu().numpy() for name, tensor in given.items()})
        tensors = (torch.from_numpy(np.ascontiguousarray(values[name])) for name in self.outputs)
        return filled(self._structure, tensors)


class OptimizedGraph(OptimizedModel):
    """Takes arrays, by position or by name, and returns one array, or a tuple where the graph has several outputs."""

    def __call__(self, *arguments: Array, **named: Array) -> Any:
        """Compute the outputs."""
        given = self._named(arguments, named, self.inputs)
        values = self.run({name: np.asarray(value) for name, value in given.items()})
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found


def _opened(directory: Path, manifest: Manifest, component: ComponentEntry, threads: int) -> Session:
    files = tuple(Path(name).relative_to(component.name).as_posix() for name in component.files)
    form = BuiltForm(
        manifest.runtime.name,
        manifest.precision,
        directory / component.name,
        files,
        tuple(tensor.name for tensor in component.signature.outputs),
        component.options,
    )
    return backend(form.backend).open(form, threads)


def _fitting(tensor: Tensor, array: Array) -> Array:
    """Return an input in its element type; refuse one whose type or shape is another.

    Raises:
        EngineFailure: SHAPE_MISMATCH saying what was expected.
    """
    dtype = np.dtype(tensor.dtype)
    fits = np.can_cast(array.dtype, dtype, "same_kind")
    if tensor.shape is not None:
        ends = zip(tensor.shape.min, array.shape, tensor.shape.max, strict=False)
        fits = fits and array.ndim == len(tensor.shape.max) and all(low <= n <= high for low, n, high in ends)
    if not fits:
        shape = " * ".join(map(str, array.shape)) or "scalar"
        raise EngineFailure(
            FailureReason.SHAPE_MISMATCH,
            f"The input '{tensor.name}' takes {dtype} {_extents(tensor)}; given was {array.dtype} {shape}.",
            suggested_fix="Optimize for the shapes that you need: input_shapes takes ranges and sets of shapes.",
        )
    return array.astype(dtype, copy=False)


def _extents(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "of any shape"
    ends = zip(tensor.shape.min, tensor.shape.max, strict=True)
    return " * ".join(str(low) if low == high else f"{low}..{high}" for low, high in ends) or "scalar"


def _wrong(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
