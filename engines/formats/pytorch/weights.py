"""Loads weights into a network, each to its place, and names those that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.placing import fits, place
from engines.formats.torch_export.module_source import listing
from engines.tensors.shapes import format_shape

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LAZY = "any shape"


def load_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy the weights into the network, each to its place (`placing.place`), none left over.

    Keys that `load_state_dict` fills in are not missing: batch counts of old checkpoints, weights of the older form of
    weight normalization.

    Raises:
        EngineFailure: WEIGHTS_MISMATCH that names missing, unexpected and differently shaped keys, with shapes.
    """
    expected = network.state_dict()
    places = place(weights, expected)
    if moved := [key for key, placed in places.items() if key != placed]:
        log.info("Keys of the weights are written otherwise in the network: '%s' is '%s'.", moved[0], places[moved[0]])
    placed = {places[key]: weight for key, weight in weights.items()}
    shapes = [key for key in placed if key in expected and not _fits(expected[key], placed[key])]
    fitting = {key: weight for key, weight in placed.items() if key not in shapes}
    try:
        result = network.load_state_dict(fitting, strict=False)
    except Exception as error:
        log.exception("load_state_dict failed")
        raise EngineFailure(FailureReason.WEIGHTS_MISMATCH, f"The weights cannot be loaded: {error}") from error
    missing = [key for key in result.missing_keys if key not in shapes]
    unexpected = [key for key in weights if places[key] in set(result.unexpected_keys)]
    if missing or unexpected or shapes:
        parts = [
            listing("missing", [f"{key} ({_shape(expected.get(key))})" for key in missing]),
            listing("unexpected", [f"{key} ({_shape(weights[key])})" for key in unexpected]),
            listing(
                "of another shape",
                [f"{key} (architecture {_shape(expected[key])}, weights {_shape(placed[key])})" for key in shapes],
            ),
        ]
        raise EngineFailure(
            FailureReason.WEIGHTS_MISMATCH,
            f"The weights do not fit the architecture: {len(missing)} keys missing, {len(unexpected)} unexpected, "
            f"{len(shapes)} of another shape.",
            evidence="\n".join(filter(None, parts)),
            suggested_fix=_advice(expected, weights, only_shapes=not (missing or unexpected)),
        )


def _fits(parameter: Any, weight: Any) -> bool:
    """Return whether the shapes are equal; a lazy module takes any shape."""
    return _shape(parameter) in {_shape(weight), _LAZY}


def _shape(value: Any) -> str:
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(value):
        return _LAZY
    shape = format_shape(tuple(getattr(value, "shape", ())))
    return f"{shape} complex" if isinstance(value, torch.Tensor) and value.is_complex() else shape


def _advice(expected: Collection[str], given: Collection[str], *, only_shapes: bool) -> str:
    """Say what the user most likely did, if the keys show it."""
    if only_shapes:
        return "The keys agree: compare the sizes in the configuration, the number of classes above all."
    for prefix in sorted({key.split(".", 1)[0] + "." for key in given if "." in key}):
        if fits(below := [key for key in given if key.startswith(prefix)], expected):
            others = [key for key in given if key not in set(below)]
            return (
                f"The keys under '{prefix}' fit the architecture; it has no place for '{others[0]}'"
                f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}. Save that part alone: "
                f"torch.save(model.{prefix}state_dict(), path). Or build the others, too."
            )
    for prefix in sorted({key.split(".", 1)[0] + "." for key in expected if "." in key}):
        if given and {prefix + key for key in given} <= set(expected):
            return f"These are the weights of its part '{prefix[:-1]}' alone: save the whole model's state dict."
    return "Check that the architecture and its configuration are those that the model was trained with."
