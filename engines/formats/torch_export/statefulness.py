"""Refuses networks whose outputs depend on earlier calls, and lets those pass that draw random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_export.forward import call_forward, flatten_outputs, users_network
from engines.runtimes.torch_networks.state import NetworkState, kept_state
from engines.tensors.errors import tensor_error

if TYPE_CHECKING:
    import torch

_THRESHOLD = 1e-4
"""Largest relative error between two calls that compute the same."""
_MOST_NAMED = 5


def refuse_stateful(
    network: torch.nn.Module, samples: Sequence[NDArray[Any]], output_names: Sequence[str], path: Path | None = None
) -> None:
    """Refuse a network that computes something else after a call.

    It is called twice with the same input; if the first call changed something, also after another input, as a delay
    or a running maximum shows only then. Each call starts from the same seed: random numbers are no state.

    Args:
        network: In evaluation mode.
        samples: One array per input.
        output_names: Names of the outputs, for the message.
        path: The architecture file, for the line that an error names.

    Raises:
        EngineFailure: STATEFUL_MODEL with the output, and what the network keeps if that can be seen; as
            `call_forward`.
    """
    with kept_state(users_network(network)) as state:
        first = _outputs(network, samples, path)
        changes = state.changes()
        _compare(first, _outputs(network, samples, path), output_names, state)
        if not changes:
            return
        try:
            _outputs(network, [np.flip(sample) for sample in samples], path)
        except EngineFailure:  # not every input may be turned around
            return
        _compare(first, _outputs(network, samples, path), output_names, state)


def _outputs(network: torch.nn.Module, samples: Sequence[NDArray[Any]], path: Path | None) -> list[NDArray[Any]]:
    import torch

    with _seeded():
        values = flatten_outputs(call_forward(network, samples, path))
    wide = {torch.bfloat16: torch.float32}
    return [value.to(wide.get(value.dtype, value.dtype)).numpy().copy() for value in values]


def _compare(
    first: list[NDArray[Any]], again: list[NDArray[Any]], output_names: Sequence[str], state: NetworkState
) -> None:
    errors = list(map(tensor_error, first, again)) if len(first) == len(again) else [float("inf")]
    worst = int(np.argmax(errors)) if errors else 0
    if not errors or errors[worst] <= _THRESHOLD:
        return
    kept = state.changes()
    named = ", ".join(f"'{name}'" for name in kept[:_MOST_NAMED]) + (" and more" if len(kept) > _MOST_NAMED else "")
    output = output_names[worst] if worst < len(output_names) else f"output_{worst}"
    raise EngineFailure(
        FailureReason.STATEFUL_MODEL,
        "The model's outputs depend on earlier calls: called again with the same input, it computes something else. "
        + (f"From one call to the next it keeps {named}." if named else "Its state cannot be seen from outside."),
        node=kept[0] if kept else "",
        evidence=f"output '{output}' has the relative error {errors[worst]:.3g} when the same input is run again",
        suggested_fix="Make the state an input and an output: let 'forward' take it as an argument and return the new "
        "one, so that the caller keeps it.",
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the random generators, and restore them afterwards."""
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
