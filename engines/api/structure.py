"""The structure of a network's result: tensors in tuples, lists and mappings, flattened and restored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.runtimes.torch_networks.state import kept_state

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Leaf:
    """The place of a tensor, and its element type."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Node:
    """A tuple, list or mapping: its type, and its parts by key."""

    kind: type[Any]
    parts: tuple[tuple[Any, Any], ...]


def structure_of(value: Any) -> Any:
    """Return the structure of a result; None stays None and counts as no tensor."""
    import torch

    if isinstance(value, torch.Tensor):
        return Leaf(value.dtype)
    if isinstance(value, Mapping):
        return Node(type(value), tuple((key, structure_of(part)) for key, part in value.items()))
    if isinstance(value, tuple | list):
        return Node(type(value), tuple((index, structure_of(part)) for index, part in enumerate(value)))
    return None


def structure_of_call(module: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> Any:
    """Return the structure of a module's result; for a network called by keywords, of the outputs that it keeps."""
    import torch

    network: Any = module.network
    with kept_state(module), torch.inference_mode():
        if not hasattr(network, "whole"):
            return structure_of(network(*tensors))
        values, result = network(*tensors), network.whole(*tensors)
    kind = type(result) if isinstance(result, Mapping) else dict
    return Node(kind, tuple(zip(network.outputs, [Leaf(value.dtype) for value in values], strict=True)))


def filled(structure: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """Return a result of that structure from tensors in order, cast to their original element types.

    Complex tensors come as real ones with a last axis of 2 (`flatten_outputs`).
    """
    if isinstance(structure, Leaf):
        tensor = next(tensors)
        return (_as_complex(tensor) if structure.dtype.is_complex else tensor).to(structure.dtype)
    if not isinstance(structure, Node):
        return None
    parts = [(key, filled(part, tensors)) for key, part in structure.parts]
    values = [value for _, value in parts]
    kind = structure.kind
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind(*values)
    if issubclass(kind, tuple | list):
        return kind(values)
    if kind in {dict, OrderedDict}:
        return kind(parts)
    return _mapping(kind, dict(parts))


def _as_complex(tensor: torch.Tensor) -> torch.Tensor:
    """Return the complex tensor of a real one with a last axis of 2."""
    import torch

    return torch.view_as_complex(tensor.contiguous())


def _mapping(kind: type[Any], parts: dict[Any, Any]) -> Any:
    """Return a mapping of a library's own type, built from its parts by name; a plain dictionary if that fails."""
    try:
        return kind(**parts)
    except TypeError:
        return parts
