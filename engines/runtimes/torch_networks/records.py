"""Records of what a call of a torch network may change: each detects a change and can undo it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import MutableSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TensorRecord:
    """A tensor and its content; of a parameter, which takes as much memory again, only whether it was written to."""

    name: str
    tensor: torch.Tensor
    content: torch.Tensor | None
    version: int

    def changed(self) -> bool:
        """Return whether it has changed."""
        if self.content is not None and self.tensor.shape != self.content.shape:
            return True
        if self.tensor.is_inference():  # these count no writes
            return self.content is not None and not _equal(self.tensor, self.content)
        return bool(self.tensor._version != self.version)

    def restore(self) -> None:
        """Restore the recorded content."""
        import torch

        if self.content is None or not self.changed():
            return
        with torch.inference_mode(self.tensor.is_inference()), torch.no_grad():
            if self.tensor.shape != self.content.shape:
                self.tensor.resize_(self.content.shape)
            self.tensor.copy_(self.content)


@dataclass(frozen=True)
class ContainerRecord:
    """A list, dictionary, set, or the attributes of an object, with what it held."""

    name: str
    held: Any
    content: Any

    def changed(self) -> bool:
        """Return whether it has changed."""
        if isinstance(self.held, np.ndarray):
            return not np.array_equal(self.held, self.content)
        return bool(_parts(self.held) != _parts(self.content))

    def restore(self) -> None:
        """Restore the recorded content."""
        if not self.changed():
            return
        if isinstance(self.held, np.ndarray):
            self.held[...] = self.content
            return
        self.held.clear()
        (self.held.extend if isinstance(self.held, list | deque) else self.held.update)(self.content)


@dataclass(frozen=True)
class AttributeRecord:
    """An attribute of a TorchScript module that is no tensor: lists and dictionaries of it arrive as copies."""

    name: str
    owner: Any
    attribute: str
    content: Any

    def changed(self) -> bool:
        """Return whether it has changed."""
        return not _equal(self.owner.getattr(self.attribute), self.content)

    def restore(self) -> None:
        """Restore the recorded content."""
        if self.changed():
            self.owner.setattr(self.attribute, copy.deepcopy(self.content))


@dataclass(frozen=True)
class AttributeTensorRecord:
    """A tensor that an attribute of a TorchScript module holds, which may hold another one later."""

    name: str
    owner: Any
    attribute: str
    tensor: torch.Tensor

    def changed(self) -> bool:
        """Return whether it has changed."""
        return self.owner.getattr(self.attribute) is not self.tensor

    def restore(self) -> None:
        """Restore the recorded content."""
        if self.changed():
            self.owner.setattr(self.attribute, self.tensor)


Record = TensorRecord | ContainerRecord | AttributeRecord | AttributeTensorRecord


def _parts(value: Any) -> Any:
    """Return what tells whether a container holds the very same things."""
    if isinstance(value, dict):
        return [(key, id(part)) for key, part in value.items()]
    return set(map(id, value)) if isinstance(value, MutableSet) else list(map(id, value))


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, element by element if they hold tensors."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.shape == other.shape and one.dtype == other.dtype
        return same and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if hasattr(one, "__dict__"):
        return _equal(vars(one), vars(other))
    return bool(one == other)
