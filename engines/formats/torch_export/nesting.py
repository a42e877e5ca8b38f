"""Calls networks whose inputs nest: from tensors in a row to the lists, tuples, dicts and keywords of `forward`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from engines.failures import first_line, invalid
from engines.spec.template import Component
from engines.tensors.text import parse
from engines.tensors.tree import assemble

if TYPE_CHECKING:
    import torch


def nested_network(network: torch.nn.Module, component: Component) -> torch.nn.Module:
    """Return a module that takes the component's inputs in a row and calls the network as their places say.

    The network itself where no input has a place: each stands at its own position.

    Raises:
        EngineFailure: INVALID_SPEC where `forward` does not take such arguments.
    """
    import torch

    places = [given.place for given in component.inputs]
    if not any(places):
        return network
    elements = parse("\n".join(f"{place}:float()" for place in places))
    positional, named = assemble(elements, elements)
    try:
        inspect.signature(network.forward).bind(*positional, **named)
    except ValueError:  # no signature can be told: the call itself will
        pass
    except TypeError as error:
        raise invalid(
            f"'forward{inspect.signature(network.forward)}' of component '{component.name}' cannot be called with "
            f"{', '.join(places)}: {first_line(error)}. Keys of level 1 are names of arguments, input_0, input_1… are "
            "positions."
        ) from error

    class Nested(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: torch.Tensor) -> Any:
            positional, named = assemble(elements, inputs)
            return self.network(*positional, **named)

    return Nested().train(network.training)
