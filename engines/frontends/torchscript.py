"""Reads TorchScript archives into ONNX. An archive is a program: read in the sandboxed child only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.backends.base import Array
from engines.conversion_request import Component, ConversionRequest, inside, invalid
from engines.failures import EngineFailure, FailureReason, first_line
from engines.frontends.module_source import module_source
from engines.inspection.formats import check_format
from engines.source import Source

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def read_torchscript(
    request: ConversionRequest, component: Component, workdir: Path, arguments: Sequence[Array], onnx_path: Path
) -> Source:
    """Write a TorchScript archive as ONNX and return it with its original.

    Raises:
        EngineFailure: INVALID_MODEL for a file that is none; INVALID_SPEC where the inputs are not those of `forward`;
            as `export_onnx` besides.
    """
    network = load_torchscript(inside(workdir, request.source_of(component)))
    _check_inputs(network, component)
    return module_source(network, component, arguments, onnx_path)


def load_torchscript(path: Path) -> torch.nn.Module:
    """Return a module around the archive's, which it holds as `script`, in evaluation mode.

    Raises:
        EngineFailure: INVALID_MODEL with what the file looks like.
    """
    import torch

    check_format(path, "TORCHSCRIPT")
    jit: Any = torch.jit
    try:
        loaded = jit.load(str(path), map_location="cpu").eval()
    except Exception as error:
        log.exception("torch.jit.load refused %s", path.name)
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"torch cannot load the TorchScript archive '{path.name}': {first_line(error)}.",
            suggested_fix="Upload the file that torch.jit.save wrote, whole; custom operators and classes cannot be "
            "loaded.",
        ) from error
    for parameter in loaded.parameters():
        parameter.requires_grad_(requires_grad=False)

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.script = loaded

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.script(*inputs)

    return Scripted().eval()


def torchscript_inputs(request: ConversionRequest, component: Component, workdir: Path) -> Component:
    """Refuse a component without inputs: a saved archive keeps the names of its arguments, and no shape of them.

    Raises:
        EngineFailure: INVALID_SPEC naming the arguments to declare; as `load_torchscript` besides.
    """
    names = ", ".join(_arguments(load_torchscript(inside(workdir, request.source_of(component)))))
    raise EngineFailure(
        FailureReason.INVALID_SPEC,
        f"A TorchScript archive does not keep the shapes of its inputs, and component '{component.name}' declares "
        f"none: declare {names or 'them'}, with shape and dtype, in this order.",
        suggested_fix="Say them in the template's component, or as tensor information: input_0:float(1*3*224*224).",
    )


def _check_inputs(network: torch.nn.Module, component: Component) -> None:
    known = _arguments(network)
    required = sum(not optional for optional in known.values())
    count = len(component.inputs)
    if not required <= count <= len(known):
        raise invalid(
            f"Component '{component.name}' declares {count} inputs; the TorchScript's forward takes "
            f"{len(known)}{f', {required} of them required' if required < len(known) else ''}: {', '.join(known)}."
        )


def _arguments(network: torch.nn.Module) -> dict[str, bool]:
    """Return the arguments of the script's `forward`, in order, and whether each has a default."""
    script: Any = network.script
    return {argument.name: argument.has_default_value() for argument in list(script.forward.schema.arguments)[1:]}
