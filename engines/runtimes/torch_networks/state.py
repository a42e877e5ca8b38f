"""The state that calls of a torch network may change, and how it is restored to what the network's file holds.

A network may keep something from one call to the next: a buffer, a cache in a list, a counter, an attribute of a
TorchScript program. Code that runs or traces a network restores this state afterwards, in place, so that objects which
share its tensors see the restored values.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.runtimes.torch_networks.records import (
    AttributeRecord,
    AttributeTensorRecord,
    ContainerRecord,
    Record,
    TensorRecord,
)

if TYPE_CHECKING:
    import torch

_CHILDREN = frozenset({"_parameters", "_buffers", "_modules"})
"""Dictionaries in which torch keeps a module's parameters, buffers and children."""
_MACHINERY = frozenset({"torch", *sys.stdlib_module_names})
"""Packages whose objects are no state of a network: graphs, hooks, loggers, locks."""


class NetworkState:
    """The state of a network when this was made."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Record the state of the network and of everything that it holds."""
        self._records = [record for _, record in sorted(_records(network), key=lambda pair: pair[0])]

    def changes(self) -> list[str]:
        """Return the names of what has changed: `cache`, `encoder.state`."""
        changed = (record for record in self._records if record.changed())
        return list(dict.fromkeys(name for record in changed for name in _names(record)))

    def restore(self) -> None:
        """Restore everything but parameters, which are weights: `changes` names those."""
        for record in self._records:
            record.restore()


@contextmanager
def kept_state(network: torch.nn.Module) -> Iterator[NetworkState]:
    """Restore the network's state on leaving. Enter it outside of torch's inference mode."""
    state = NetworkState(network)
    try:
        yield state
    finally:
        state.restore()


def _records(network: torch.nn.Module) -> Iterator[tuple[int, Record]]:
    """Yield records of what may change, each once, with its rank: a tensor's content comes after its holder."""
    import torch

    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", network)]
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield 1, _tensor(name, value)
        elif isinstance(value, torch.jit.ScriptModule):
            yield from _script_records(name, value)
        elif isinstance(value, np.ndarray):
            yield 1, ContainerRecord(name, value, value.copy())
        elif isinstance(value, list | deque | dict | set):
            yield 0, ContainerRecord(name, value, copy.copy(value))
            waiting += _inside(name, value)
        elif isinstance(value, tuple):
            waiting += _inside(name, value)
        elif _may_hold_state(value):
            held = vars(value)
            seen.add(id(held))
            yield 0, ContainerRecord(name, held, dict(held))
            torchs = _of_every_module() if isinstance(value, torch.nn.Module) else frozenset()
            waiting += _inside(name, {key: part for key, part in held.items() if key not in torchs})


@functools.cache
def _of_every_module() -> frozenset[str]:
    """Return what torch keeps in each module beside its children and tensors: hooks, flags."""
    import torch

    return frozenset(vars(torch.nn.Module())) - _CHILDREN


def _names(record: Record) -> list[str]:
    """Return the names of a changed record: for attributes and dictionaries, the keys that changed."""
    if not isinstance(record, ContainerRecord) or not isinstance(record.held, dict):
        return [record.name]
    before, now = record.content, record.held
    keys = [key for key in {**before, **now} if key not in before or now.get(key) is not before[key]]
    return [_joined(record.name, str(key)) for key in keys] or [record.name]


def _tensor(name: str, tensor: torch.Tensor, *, parameter: bool = False) -> TensorRecord:
    import torch

    kept = not (parameter or isinstance(tensor, torch.nn.Parameter))
    version = 0 if tensor.is_inference() else tensor._version
    return TensorRecord(name, tensor, tensor.detach().clone() if kept else None, version)


def _script_records(name: str, script: Any) -> Iterator[tuple[int, Record]]:
    import torch

    weights = {parameter.data_ptr() for parameter in script.parameters()}
    for path, owner, value in _script_attributes(script):
        full = _joined(name, *path)
        if isinstance(value, torch.Tensor):
            yield 0, AttributeTensorRecord(full, owner, path[-1], value)
            yield 1, _tensor(full, value, parameter=value.data_ptr() in weights)
        else:
            yield 0, AttributeRecord(full, owner, path[-1], copy.deepcopy(value))


def _script_attributes(script: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield what a call of a TorchScript program reads or writes, by its graph: torch has no list of it.

    That is, for each attribute but modules: its path, the C++ module that has it, and its value. Lists and dictionaries
    are copies, tensors are not. The content of objects of TorchScript classes is left out: Python cannot read it.
    """
    import torch

    for path in _paths(script.inlined_graph):
        owner = script._c
        try:
            for place in path[:-1]:
                owner = owner.getattr(place)
            value = owner.getattr(path[-1])
        except (AttributeError, RuntimeError):
            continue
        if not isinstance(value, torch._C.ScriptModule):
            yield path, owner, value


def _paths(graph: Any) -> list[tuple[str, ...]]:
    """Return the paths of the attributes that a graph gets or sets, from the module downwards."""
    paths: dict[str, tuple[str, ...]] = {next(graph.inputs()).debugName(): ()}
    found: dict[tuple[str, ...], None] = {}
    for node in _nodes(graph):
        if node.kind() not in {"prim::GetAttr", "prim::SetAttr"}:
            continue
        owner = paths.get(next(node.inputs()).debugName())
        if owner is None:  # an element of a list of objects: the list is an attribute itself
            continue
        path = (*owner, node.s("name"))
        if node.kind() == "prim::GetAttr":
            paths[node.output().debugName()] = path
        found[path] = None
    return list(found)


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _may_hold_state(value: Any) -> bool:
    """Whether the attributes of an object count: of networks, and of what is neither torch's nor Python's own."""
    import torch

    if isinstance(value, torch.nn.Module | types.SimpleNamespace):
        return True
    if isinstance(value, type | types.ModuleType) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.partition(".")[0] not in _MACHINERY


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the content of a container by dotted name; torch's own dictionaries of children have no name."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (name if key in _CHILDREN else _joined(name, str(key))), part
    else:
        for part in value:
            yield name, part


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))
