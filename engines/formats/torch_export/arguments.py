"""Makes networks take their inputs by position, as exporters do: inputs that go by name, and inputs that nest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line, invalid
from engines.formats.torch_export.user_code import failure_of
from engines.runtimes.torch_networks.state import kept_state
from engines.spec.template import Component
from engines.tensors.text import parse
from engines.tensors.tree import assemble

if TYPE_CHECKING:
    import torch

Call = Callable[[Any, dict[str, Any]], Any]
"""Runs the network that it is given, which may be a copy, on its inputs by name.

It returns the network's outputs by name, or a tuple of those that are asked for.
"""


@dataclass(frozen=True)
class KeywordNetwork:
    """A network that takes its inputs by name.

    Attributes:
        network: The network with the weights.
        arguments: Names of what it takes.
        call: Runs it.
        outputs: Names of the outputs that count, in order; those that it does not return are left out.
    """

    network: torch.nn.Module
    arguments: tuple[str, ...]
    call: Call
    outputs: tuple[str, ...]

    def takes(self, name: str) -> bool:
        """Return whether it takes an input of this name."""
        return name in self.arguments

    def taking(self, names: Sequence[str]) -> Any:
        """Return a module that takes these inputs by position and returns its outputs as a tuple.

        The module's `find_outputs(tensors)` runs it once and returns the names of its outputs; the module returns these
        from then on. Its `whole(*tensors)` returns what the network itself does.
        """
        import torch

        outer = self

        class Positional(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = outer.network
                self.outputs = outer.outputs

            def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
                result = self.whole(*inputs)
                values = result if isinstance(result, Mapping) else dict(zip(self.outputs, result, strict=True))
                return tuple(values[name] for name in self.outputs)

            def whole(self, *inputs: torch.Tensor) -> Any:
                return outer.call(self.network, dict(zip(names, inputs, strict=True)))

            def find_outputs(self, tensors: tuple[torch.Tensor, ...]) -> tuple[str, ...]:
                self.outputs = outer.given(dict(zip(names, tensors, strict=True)))
                return self.outputs

        return Positional().eval()

    def given(self, values: dict[str, torch.Tensor]) -> tuple[str, ...]:
        """Return the names of the outputs that the network returns.

        Raises:
            EngineFailure: INVALID_MODEL if it returns none of them; as `failure_of` if it cannot be run.
        """
        import torch

        with kept_state(self.network), torch.inference_mode():
            try:
                result = self.call(self.network, values)
            except Exception as error:
                failure = failure_of(
                    error, "The model cannot be run on its inputs: it raised", reason=FailureReason.SHAPE_MISMATCH
                )
                failure.evidence = f"inputs: {', '.join(values)}"
                failure.suggested_fix = failure.suggested_fix or (
                    "Declare the inputs that it needs, with shape, dtype and the range of their "
                    f"values; it takes {', '.join(self.arguments)}."
                )
                raise failure from error
        if not isinstance(result, Mapping):
            return self.outputs
        names = tuple(name for name in self.outputs if isinstance(result.get(name), torch.Tensor))
        if not names:
            have = ", ".join(map(str, result)) or "nothing"
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"The model returns {have} instead of {' or '.join(self.outputs)}, which its architecture should.",
                suggested_fix="Export the model with torch.export or to ONNX, and upload that.",
            )
        return names


def keyword_network(
    network: torch.nn.Module, forward: Callable[..., Any], call: Call, outputs: tuple[str, ...]
) -> KeywordNetwork:
    """Return a network that takes what `forward` takes, tensors alone."""
    kinds = inspect.Parameter
    arguments = tuple(
        name
        for name, parameter in inspect.signature(forward).parameters.items()
        if name != "self" and parameter.kind not in {kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL}
    )
    return KeywordNetwork(network, arguments, call, outputs)


def nested_network(network: torch.nn.Module, component: Component) -> torch.nn.Module:
    """Return a module that takes the component's inputs in a row and calls the network as their places say.

    The network itself is returned if no input has a place: each is at its own position.

    Raises:
        EngineFailure: INVALID_SPEC if `forward` does not take such arguments.
    """
    import torch

    places = [given.place for given in component.inputs]
    if not any(places):
        return network
    elements = parse("\n".join(f"{place}:float()" for place in places))
    positional, named = assemble(elements, elements)
    try:
        inspect.signature(network.forward).bind(*positional, **named)
    except ValueError:  # there is no signature: the call itself decides
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
