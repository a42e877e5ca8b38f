"""Runs a network: flat outputs whatever structure `forward` returns, and the module in which it raised."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.frontends.user_code import failure_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_SHAPE_WORDS = ("shape", "size", "dimension", "channels", "index out of range", "broadcast", "view")


def flatten_outputs(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a result in order: of tuples, lists and mappings, nested as they may be; None is left out.

    Raises:
        EngineFailure: INVALID_ARCHITECTURE where the result holds something else.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in flatten_outputs(part)]
    raise EngineFailure(
        FailureReason.INVALID_ARCHITECTURE,
        f"'forward' returns a {type(value).__name__}; outputs must be tensors, in tuples, lists or dictionaries.",
    )


def to_tensors(samples: Sequence[NDArray[Any]]) -> tuple[torch.Tensor, ...]:
    """Return the arrays as tensors of their own memory."""
    import torch

    return tuple(torch.from_numpy(np.array(sample, order="C")) for sample in samples)


def run_forward(
    network: torch.nn.Module, samples: Sequence[NDArray[Any]], path: Path | None = None
) -> list[torch.Tensor]:
    """Run the network once, without gradients, and return its flat outputs.

    Args:
        network: The network, in evaluation mode.
        samples: One array per input, in the order of `forward`.
        path: The architecture file, for the line that an error names.

    Raises:
        EngineFailure: as `call_forward`; INVALID_ARCHITECTURE where the result holds no tensor, or something else.
    """
    outputs = flatten_outputs(call_forward(network, samples, path))
    if not outputs:
        raise EngineFailure(
            FailureReason.INVALID_ARCHITECTURE,
            "'forward' returns no tensor.",
            suggested_fix="Return what the network computes: a tensor, or tensors in a tuple, list or dictionary.",
        )
    return outputs


def call_forward(network: torch.nn.Module, samples: Sequence[NDArray[Any]], path: Path | None = None) -> Any:
    """Run the network once, without gradients, and return what `forward` returns, as it is.

    Raises:
        EngineFailure: SHAPE_MISMATCH where the error is about shapes, else INVALID_ARCHITECTURE, with the innermost
            module in which it raised.
    """
    import torch

    with torch.inference_mode(), _ModuleTrail(network) as trail:
        try:
            return network(*to_tensors(samples))
        except (Exception, SystemExit) as error:
            raise _failure(error, trail.path, samples, path) from error


def run_module(module: torch.nn.Module, samples: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the network's flat outputs as arrays; half precision arrives as float32.

    Raises:
        EngineFailure: as `run_forward`.
    """
    import torch

    halves = (torch.float16, torch.bfloat16)
    return [(out.float() if out.dtype in halves else out).numpy() for out in run_forward(module, samples)]


class _ModuleTrail:
    """Remembers, by hooks, the innermost module that was entered and not left."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._inside: list[str] = []
        self._hooks: list[Any] = []

    @property
    def path(self) -> str:
        """Dotted path of the innermost module that was running; empty for the network itself."""
        return self._inside[-1] if self._inside else ""

    def __enter__(self) -> _ModuleTrail:
        for name, module in self._network.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(lambda *_, name=name: self._inside.append(name)),
                module.register_forward_hook(lambda *_: self._leave()),
            ]
        return self

    def _leave(self) -> None:
        self._inside.pop()

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _failure(error: BaseException, module: str, samples: Sequence[NDArray[Any]], path: Path | None) -> EngineFailure:
    text = str(error).lower()
    about_shapes = isinstance(error, RuntimeError | IndexError | ValueError) and any(w in text for w in _SHAPE_WORDS)
    reason = FailureReason.SHAPE_MISMATCH if about_shapes else FailureReason.INVALID_ARCHITECTURE
    inside = f"In module '{module}', " if module else "In "
    failure = failure_of(error, f"{inside}'forward' raised", path, node=module, reason=reason)
    shapes = ", ".join(f"{sample.dtype}({'*'.join(map(str, sample.shape))})" for sample in samples)
    failure.evidence = f"inputs: {shapes}"
    if about_shapes and not failure.suggested_fix:
        failure.suggested_fix = "Compare the template's input shapes and their order with what 'forward' expects."
    return failure
