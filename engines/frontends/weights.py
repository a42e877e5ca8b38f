"""Loads weights into a network, each to its place, and says what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.signature import format_shape

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LISTED = 20
_LAZY = "any shape"


def load_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy the weights into the network, each to its place, none left over.

    Raises:
        EngineFailure: WEIGHTS_MISMATCH that names missing, unexpected and differently shaped keys, with shapes.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    shapes = [key for key in expected if key in weights and not _fits(expected[key], weights[key])]
    if missing or unexpected or shapes:
        parts = [
            _listing("missing", [f"{key} ({_shape(expected[key])})" for key in missing]),
            _listing("unexpected", [f"{key} ({_shape(weights[key])})" for key in unexpected]),
            _listing(
                "of another shape",
                [f"{key} (architecture {_shape(expected[key])}, weights {_shape(weights[key])})" for key in shapes],
            ),
        ]
        raise EngineFailure(
            FailureReason.WEIGHTS_MISMATCH,
            f"The weights do not fit the architecture: {len(missing)} keys missing, {len(unexpected)} unexpected, "
            f"{len(shapes)} of another shape.",
            evidence="\n".join(filter(None, parts)),
            suggested_fix=_advice(expected.keys(), weights.keys(), shapes),
        )
    try:
        network.load_state_dict(weights, strict=True)
    except Exception as error:
        log.exception("load_state_dict failed")
        raise EngineFailure(FailureReason.WEIGHTS_MISMATCH, f"The weights cannot be loaded: {error}") from error


def _fits(parameter: Any, weight: Any) -> bool:
    """Return whether the shapes are equal; a lazy module takes whatever shape comes."""
    return _shape(parameter) in {_shape(weight), _LAZY}


def _shape(value: Any) -> str:
    from torch.nn.parameter import is_lazy

    return _LAZY if is_lazy(value) else format_shape(tuple(getattr(value, "shape", ())))


def _listing(title: str, entries: Sequence[str]) -> str:
    more = f", and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return f"{title} ({len(entries)}): {', '.join(entries[:_LISTED])}{more}" if entries else ""


def _advice(expected: Iterable[str], given: Iterable[str], shapes: Sequence[str]) -> str:
    """Say what a user most likely did, where the keys tell."""
    wanted, have = set(expected), set(given)
    for prefix in sorted({key.split(".", 1)[0] + "." for key in have if "." in key}):
        if wanted and wanted <= {key.removeprefix(prefix) for key in have if key.startswith(prefix)}:
            return f"All keys lie one level deeper under '{prefix}': save that part of the model, or wrap the network."
    for prefix in sorted({key.split(".", 1)[0] + "." for key in wanted if "." in key}):
        if have and {prefix + key for key in have} <= wanted:
            return (
                f"The architecture has these keys one level deeper under '{prefix}': save the whole model's state dict."
            )
    if shapes and wanted == have:
        return "The keys agree: compare the sizes in the configuration, the number of classes above all."
    return "Check that the architecture and its configuration are those that the model was trained with."
