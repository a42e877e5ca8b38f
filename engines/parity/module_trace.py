"""Outputs of a torch network's modules, and the graph values that hold the same: which layer was exported wrongly.

The last node of a module computes the module's output, unless a later optimisation moved it; a pair whose shapes
differ is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from engines.formats.torch_export.forward import run_module
from engines.graph.scopes import scopes
from engines.tensors import Array, Arrays

if TYPE_CHECKING:
    import torch

MOST_BYTES = 2**29
"""Activations that are kept, 512 MiB; modules that run after that are not compared."""


def module_outputs(network: torch.nn.Module, samples: Sequence[Array]) -> Arrays:
    """Return the output of each module's first call, by its dotted path, in the order in which they end."""
    import torch

    found: Arrays = {}
    room = MOST_BYTES

    def keep(path: str, value: Any) -> None:
        nonlocal room
        if isinstance(value, torch.Tensor) and path not in found and value.nbytes <= room:
            room -= value.nbytes
            found[path] = value.detach().float().numpy().copy()

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, value, path=path: keep(path, value))
        for path, module in network.named_modules()
        if path
    ]
    try:
        run_module(network, samples)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def values_of_modules(nodes: Sequence[Any], modules: Collection[str]) -> dict[str, str]:
    """Return the last value that a node of each module computes, by module, in the order of the nodes."""
    last: dict[str, str] = {}
    for node in nodes:
        for path in scopes(node):
            if path in modules and node.output[0]:
                last.pop(path, None)
                last[path] = node.output[0]
    return last
