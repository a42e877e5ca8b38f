"""`torch.export` of a packaged network with a dynamic batch and dynamic ranged axes, and its failures in words."""

from __future__ import annotations

import logging
import re
import warnings
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes.source import BuildSource
from engines.runtimes.torch_networks.modules import example_of
from engines.runtimes.torch_networks.opener import CPU
from engines.runtimes.torch_networks.state import kept_state
from engines.sandbox.tasklog import quiet

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_CONTROL_FLOW = re.compile(r"data-dependent|GuardOnDataDependent|dynamic control flow", re.IGNORECASE)
_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\w+)')
_MODULE = re.compile(r"L\['self'\]\.network\.?(?P<path>[\w.\[\]']*)")


def export_program(
    title: str, network: torch.nn.Module, source: BuildSource, on: str = CPU
) -> torch.export.ExportedProgram:
    """Return the exported program of a packaged network, which computes on `cpu` or `cuda`.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR for control flow that depends on values, with the line that decides;
            TOOLCHAIN_CRASHED for anything else that `torch.export` refuses.
    """
    import torch

    example = example_of(source, on)
    try:
        with kept_state(network), quiet(log), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(network, example, dynamic_shapes=(_dynamic_axes(source, example),))
    except Exception as error:
        log.info("torch.export does not take the network", exc_info=error)
        raise _explained(title, error) from error


def _dynamic_axes(source: BuildSource, example: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    """Return, for each input, the axes that vary; one name for all batch axes, so that they are known to be equal.

    The exporter would fix an axis whose example has an extent of 0 or 1, so such an axis is not declared.
    """
    from torch.export import Dim

    batch: Any = None
    axes: list[dict[int, Any]] = []
    for spec, tensor in zip(source.signature.inputs, example, strict=True):
        found: dict[int, Any] = {}
        for axis, (low, high) in enumerate(zip(spec.min, spec.max, strict=True)):
            if low == high or tensor.shape[axis] < 2:
                continue
            if axis == spec.batch_axis:
                batch = batch or Dim("batch", min=low, max=high)
                found[axis] = batch
            else:
                found[axis] = Dim.DYNAMIC
        axes.append(found)
    return tuple(axes)


def _explained(title: str, error: Exception) -> EngineFailure:
    raw = str(error)
    places = [found for found in _PLACE.finditer(raw) if "/torch/" not in found["file"]]
    where = f"{places[-1]['file'].rsplit('/', 1)[-1]}:{places[-1]['line']}" if places else ""
    at = f" at {where}, in '{places[-1]['name']}'," if places else ""
    module = next((found["path"] for found in _MODULE.finditer(raw) if found["path"]), "")
    if _CONTROL_FLOW.search(raw):
        return EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            f"{title} cannot be built: the network decides{at} by a value that is only known when it runs.",
            node=module or where,
            operator="control flow",
            evidence=raw.strip()[-1000:],
            suggested_fix="Write the decision with torch.where or torch.cond. Forms built from the ONNX graph "
            "keep the decision that the samples led to; they are tried as well.",
        )
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{title} cannot be built: torch.export refuses the network{at} {first_line(error)}",
        node=module or where,
        evidence=raw.strip()[-1000:],
        suggested_fix="Read the task's log for the whole message; forms built from the ONNX graph are tried as well.",
    )
