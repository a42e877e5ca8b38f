"""Runs a network: flattens the outputs of `forward`, and finds the module that raised."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_export.user_code import failure_of
from engines.runtimes.torch_networks.state import kept_state

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_SHAPE_WORDS = ("shape", "size", "dimension", "channels", "broadcast", "view")
ANY_BATCH = "Write the network for any batch (x.shape[0], -1 in reshape), or set the largest batch to 1."
_ADVICE = (
    (
        ("index out of range", "indices element out of"),
        "Set sample_min and sample_max of integer inputs to the values that the network takes, as its embeddings do.",
    ),
    (
        ("scalar type", "same dtype", "dtype"),
        "Declare each input in the dtype that 'forward' expects: int64 for indices, for others that of the weights. Or "
        "bring the network to float32, by model.float().",
    ),
    (("cuda",), "The network must run on the CPU: take the device from an input (x.device), and call no .cuda()."),
    (
        ("is invalid for input of size",),
        f"Compare the inputs' shapes with what 'forward' expects. {ANY_BATCH}",
    ),
    (_SHAPE_WORDS, "Compare the inputs' shapes and their order with what 'forward' expects."),
)
"""Advice by words of an error; the first that fits."""


def flatten_outputs(value: Any, where: str = "") -> list[torch.Tensor]:
    """Return the tensors of a result in order: of tuples, lists and mappings, nested as they may be; None is left out.

    A complex tensor becomes a real one with a last axis of 2, as runtimes return no complex tensors.

    Raises:
        EngineFailure: INVALID_ARCHITECTURE if the result holds something else, with the place: `['loss'][0]`.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return [torch.view_as_real(value.resolve_conj()) if value.is_complex() else value]
    if value is None:
        return []
    if isinstance(value, Mapping | tuple | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        return [tensor for key, part in items for tensor in flatten_outputs(part, f"{where}[{key!r}]")]
    raise EngineFailure(
        FailureReason.INVALID_ARCHITECTURE,
        f"The result of 'forward' holds {type(value).__name__} {str(value)[:80]!r}"
        f"{f' at {where}' if where else ''}; outputs must be tensors, in tuples, lists or dictionaries.",
        suggested_fix="Return tensors alone; None is passed over.",
    )


def to_tensors(samples: Sequence[NDArray[Any]]) -> tuple[torch.Tensor, ...]:
    """Return the arrays as tensors of their own memory."""
    import torch

    return tuple(torch.from_numpy(np.array(sample, order="C")) for sample in samples)


def run_forward(
    network: torch.nn.Module, samples: Sequence[NDArray[Any]], path: Path | None = None
) -> list[torch.Tensor]:
    """Run the network once, without gradients, and return its flat outputs. Its state stays as it is.

    Args:
        network: The network, in evaluation mode.
        samples: One array per input, in the order of `forward`.
        path: The architecture file, for the line that an error names.

    Raises:
        EngineFailure: as `call_forward`; INVALID_ARCHITECTURE if the result holds no tensor, or something else.
    """
    with kept_state(network):
        outputs = [output.clone() for output in flatten_outputs(call_forward(network, samples, path))]
    if not outputs:
        raise EngineFailure(
            FailureReason.INVALID_ARCHITECTURE,
            "'forward' returns no tensor.",
            suggested_fix="Return what the network computes: a tensor, or tensors in a tuple, list or dictionary.",
        )
    return outputs


def call_forward(network: torch.nn.Module, samples: Sequence[NDArray[Any]], path: Path | None = None) -> Any:
    """Run the network once, without gradients, and return what `forward` returns, as it is.

    Changes that the call makes to the network stay: `engines.runtimes.torch_networks.state.kept_state` undoes them.

    Raises:
        EngineFailure: SHAPE_MISMATCH if the error is about shapes, else INVALID_ARCHITECTURE, with the innermost
            module in which it raised.
    """
    import torch

    with torch.inference_mode(), _ModuleTrail(network) as trail:
        try:
            return network(*to_tensors(samples))
        except (Exception, SystemExit) as error:
            failure = _failure(error, trail.path, samples, path)
            failure.evidence += _weights(network)
            raise failure from error


def users_network(network: torch.nn.Module) -> torch.nn.Module:
    """Return what Lathe's own modules are wrapped around, in which names are those that its user knows."""
    while type(network).__module__.startswith("engines.") and (inner := next(network.children(), None)) is not None:
        network = inner
    return network


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
        import torch

        for name, module in users_network(self._network).named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks; its errors name its own lines
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


def _weights(network: torch.nn.Module) -> str:
    """Return the dtypes of the weights in words; nothing if all are float32."""
    found = sorted({str(weight.dtype).removeprefix("torch.") for weight in network.parameters()} - {"float32"})
    return f"; weights: {', '.join(found)}" if found else ""


def _failure(error: BaseException, module: str, samples: Sequence[NDArray[Any]], path: Path | None) -> EngineFailure:
    text = str(error).lower()
    about_shapes = isinstance(error, RuntimeError | IndexError | ValueError) and any(
        words in text for words in _SHAPE_WORDS
    )
    reason = FailureReason.SHAPE_MISMATCH if about_shapes else FailureReason.INVALID_ARCHITECTURE
    inside = f"In module '{module}', " if module else ""
    failure = failure_of(error, f"{inside}'forward' raised", path, node=module, reason=reason)
    shapes = ", ".join(f"{sample.dtype}({'*'.join(map(str, sample.shape))})" for sample in samples)
    failure.evidence = f"inputs: {shapes}"
    if not failure.suggested_fix:
        failure.suggested_fix = next((advice for words, advice in _ADVICE if any(word in text for word in words)), "")
    return failure
