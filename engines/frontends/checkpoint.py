"""Loads the state dict of a PyTorch checkpoint. Runs in the sandboxed child."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.inspection.pth import Checkpoint, read_checkpoint

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_WRAPPER = "module."


def load_state_dict(path: Path, state_dict_key: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint, on the CPU.

    The file is looked through without torch first, so that code in it is refused by name before torch sees it. The
    `module.` that DataParallel puts before every key is taken off.

    Args:
        path: File of `torch.save`.
        state_dict_key: Key under which the state dict lies; the whole file where empty.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, or INVALID_SPEC where nothing fit lies under the key.
    """
    _check_key(read_checkpoint(path), path, state_dict_key)
    loaded = _torch_load(path)
    return _without_wrapper(_tensors(loaded[state_dict_key] if state_dict_key else loaded))


def _check_key(checkpoint: Checkpoint, path: Path, key: str) -> None:
    if key in checkpoint.state_dicts:
        return
    fit = [name for name in checkpoint.state_dicts if name]
    have = ", ".join(f"'{name}'" for name in checkpoint.keys[:20]) or "none"
    advice = f"Set the state-dict key to '{fit[0]}'." if fit else "Save it with torch.save(model.state_dict(), path)."
    if "" in checkpoint.state_dicts:
        wrong = f"has no key '{key}': the whole file is the state dict"
        advice = "Leave the state-dict key empty."
    elif key and key in checkpoint.keys:
        wrong = f"has no state dict under '{key}', but something else; its keys: {have}"
    elif key:
        wrong = f"has no key '{key}'; its keys: {have}"
    else:
        wrong = f"is not a state dict as a whole; its keys: {have}"
    if fit:
        wrong += f"; state dicts lie under {', '.join(repr(name) for name in fit)}"
    reason = FailureReason.INVALID_SPEC if key or fit else FailureReason.INVALID_MODEL
    raise EngineFailure(reason, f"The checkpoint '{path.name}' {wrong}.", suggested_fix=advice)


def _torch_load(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=is_zip)
    except Exception as error:
        log.exception("torch.load refused %s", path.name)
        reason = FailureReason.UNSAFE_MODEL if "Unsupported global" in str(error) else FailureReason.INVALID_MODEL
        raise EngineFailure(
            reason,
            f"torch cannot load the checkpoint '{path.name}': {first_line(error)}",
            suggested_fix="Upload the file that torch.save(model.state_dict(), path) wrote, whole.",
        ) from error


def _tensors(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return plain tensors; the extra state that modules may keep beside them stays as it is."""
    import torch

    return {key: value.detach() if isinstance(value, torch.Tensor) else value for key, value in values.items()}


def _without_wrapper(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if not all(key.startswith(_WRAPPER) for key in values):
        return values
    log.info("Every key begins with 'module.' (DataParallel); the prefix is taken off.")
    return {key.removeprefix(_WRAPPER): value for key, value in values.items()}
