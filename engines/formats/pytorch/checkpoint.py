"""Loads the state dict of a PyTorch checkpoint. Runs in the sandboxed child."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.pytorch.description import Checkpoint, read_checkpoint
from engines.formats.pytorch.placing import fits
from engines.formats.torch_files.inert import INERT

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def load_state_dict(
    path: Path,
    state_dict_key: str = "",
    *,
    usual: str = "",
    expected: Collection[str] = (),
    component: str = "model",
) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint, on the CPU.

    The file is checked without torch first, so that code in it is refused by name before torch sees it.

    Args:
        path: File of `torch.save`.
        state_dict_key: Key of the state dict. If empty: the whole file, the only state dict in it, or the
            only one whose keys are those of the network.
        usual: Key under which the writer of the file keeps its weights; it is taken if no key is given.
        expected: Keys of the network that the weights are for.
        component: Name of the component, for the command that an error suggests.

    Raises:
        EngineFailure: INVALID_MODEL, UNSAFE_MODEL, or INVALID_SPEC if there is no state dict under the key, or if no
            key is given and several would fit.
    """
    checkpoint = read_checkpoint(path)
    if not state_dict_key and usual in checkpoint.state_dicts:
        state_dict_key = usual
    key = _choose(checkpoint, path, state_dict_key, expected, component)
    loaded = _torch_load(path)
    return _tensors(loaded[key] if key else loaded)


def load_beside(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint holds, plain data beside its weights included; nothing if it is a bare state dict.

    Raises:
        EngineFailure: INVALID_MODEL or UNSAFE_MODEL.
    """
    read_checkpoint(path)
    loaded = _torch_load(path)
    return loaded if isinstance(loaded, Mapping) else {}


def _choose(checkpoint: Checkpoint, path: Path, key: str, expected: Collection[str], component: str) -> str:
    found = checkpoint.state_dicts
    if key in found:
        return key
    candidates = [name for name in found if name]
    if not key and candidates:
        fitting = [name for name in candidates if fits(found[name], expected)]
        chosen = fitting if len(candidates) > 1 else candidates
        if len(chosen) == 1:
            log.info("The weights are taken from the checkpoint's key '%s'.", chosen[0])
            return chosen[0]
        candidates = fitting or candidates
    raise _no_choice(checkpoint, path, key, candidates, component)


def _no_choice(
    checkpoint: Checkpoint, path: Path, key: str, candidates: Collection[str], component: str
) -> EngineFailure:
    have = ", ".join(f"'{name}'" for name in checkpoint.keys[:20]) or "none"
    if "" in checkpoint.state_dicts:
        wrong = f"has no key '{key}': the whole file is the state dict"
        advice = f"Leave the key empty: --set components.{component}.state_dict_key="
    elif not candidates:
        wrong = f"holds no state dict; its keys: {have}"
        advice = "Save it with torch.save(model.state_dict(), path)."
    else:
        state_dicts = ", ".join(f"'{name}'" for name in candidates)
        if not key:
            wrong = f"holds several state dicts, any of which may be meant: {state_dicts}"
        else:
            what = "something else under" if key in checkpoint.keys else "no key"
            wrong = f"has {what} '{key}'; its keys: {have}; there are state dicts under {state_dicts}"
        typed = (shlex.quote(f"components.{component}.state_dict_key={name}") for name in candidates)
        advice = f"Say which to take: --set {', or --set '.join(typed)}"
    reason = FailureReason.INVALID_SPEC if key or candidates else FailureReason.INVALID_MODEL
    return EngineFailure(reason, f"The checkpoint '{path.name}' {wrong}.", suggested_fix=advice)


def _torch_load(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    inert: Any = [(stand_in, f"{module}.{name}") for (module, name), stand_in in INERT.items()]
    try:
        with torch.serialization.safe_globals(inert):
            return torch.load(path, weights_only=True, map_location="cpu", mmap=is_zip)
    except Exception as error:
        log.exception("torch.load refused %s", path.name)
        cause = first_line(Exception(str(error).rpartition("WeightsUnpickler error:")[2]))
        advice = "Upload the file that torch.save(model.state_dict(), path) wrote, whole."
        if "Unsupported operand" in cause:
            cause = "it is pickled in a newer protocol than torch's safe loader reads"
            advice = "Save it again without the argument pickle_protocol: torch.save(model.state_dict(), path)."
        reason = FailureReason.UNSAFE_MODEL if "Unsupported global" in cause else FailureReason.INVALID_MODEL
        raise EngineFailure(
            reason, f"torch cannot load the checkpoint '{path.name}': {cause}", suggested_fix=advice
        ) from error


def _tensors(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return plain tensors; the extra state of modules stays as it is."""
    import torch

    return {key: value.detach() if isinstance(value, torch.Tensor) else value for key, value in values.items()}
