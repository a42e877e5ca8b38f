"""Reads TorchScript archives into ONNX. An archive is a program: read in the sandboxed child only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line, invalid
from engines.formats.detection import check_format
from engines.formats.protocol import ReadJob
from engines.formats.source import Source
from engines.formats.torch_export.module_source import module_source
from engines.spec.template import Component
from engines.tensors.text import parse
from engines.tensors.tree import is_positional

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def read_torchscript(path: Path, job: ReadJob) -> Source:
    """Return a TorchScript archive as a source.

    Raises:
        EngineFailure: INVALID_MODEL if the file is not an archive; INVALID_SPEC if the inputs are not those of
            `forward`; as `module_source`.
    """
    network = load_torchscript(path)
    _check_inputs(network, job.component)
    return module_source(network, job.component, job.arguments, job.onnx_path)


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
        newer = "maximum supported version" in str(error)
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"torch cannot load the TorchScript archive '{path.name}': {first_line(error)}",
            suggested_fix=f"Save it with torch {torch.__version__.partition('+')[0]} or an older release."
            if newer
            else "Upload the file that torch.jit.save wrote, whole; custom operators and classes cannot be loaded.",
        ) from error
    for parameter in loaded.parameters():
        parameter.requires_grad_(requires_grad=False)

    return scripted(loaded)


def scripted(script: Any) -> torch.nn.Module:
    """Return a module around a scripted or traced one, which it holds as `script`, in evaluation mode."""
    import torch

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.script = script

        def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
            return self.script(*inputs, **named)

    return Scripted().eval()


def undeclared(arguments: Sequence[str], component: Component) -> EngineFailure:
    """Return the failure of a component without inputs: INVALID_SPEC naming the arguments to declare."""
    return EngineFailure(
        FailureReason.INVALID_SPEC,
        f"A TorchScript archive does not keep the shapes of its inputs, and component '{component.name}' declares "
        f"none: declare {', '.join(arguments) or 'them'}, with shape and dtype, in this order.",
        suggested_fix="Declare them in the template's component, or as tensor information, by name or by position: "
        f"{arguments[0] if arguments else 'input_0'}:float(1*3*224*224).",
    )


def in_order_of_forward(path: Path, component: Component) -> Component:
    """Return the component with inputs that are named by arguments moved to the positions of these.

    Exporters of scripts take arguments by position alone. Inputs stay as they are if they nest or leave out an argument
    between others, or if `forward` does not have their names, which reading the archive refuses.

    Raises:
        EngineFailure: as `load_torchscript`.
    """
    elements = parse("\n".join(f"{given.place}:float()" for given in component.inputs if given.place))
    if is_positional(elements) or any(element.steps for element in elements):
        return component
    network = load_torchscript(path)
    leading = list(script_arguments(network.script))[: len(elements)]
    inputs = {element.argument: given for element, given in zip(elements, component.inputs, strict=True)}
    if sorted(inputs) != sorted(leading):
        return component
    return component.model_copy(
        update={"inputs": tuple(inputs[name].model_copy(update={"place": ""}) for name in leading)}
    )


def script_arguments(script: Any) -> dict[str, bool]:
    """Return the arguments of a script's `forward`, in order, and whether each has a default."""
    return {argument.name: argument.has_default_value() for argument in list(script.forward.schema.arguments)[1:]}


def _check_inputs(network: torch.nn.Module, component: Component) -> None:
    known = script_arguments(network.script)
    required = {name for name, optional in known.items() if not optional}
    given = _given(component, list(known))
    if not required <= set(given) <= set(known):
        some = f", {len(required)} of them required" if len(required) < len(known) else ""
        names = "" if set(given) <= set(known) else f" ({', '.join(given)})"
        raise invalid(
            f"Component '{component.name}' declares {len(given)} inputs{names}; the TorchScript's forward takes "
            f"{len(known)}{some}: {', '.join(known)}."
        )


def _given(component: Component, known: Sequence[str]) -> list[str]:
    """Return the arguments that the inputs are for; a position that `forward` lacks as `input_7`."""
    places = [given.place for given in component.inputs]
    if not any(places):
        return [*known[: len(places)], *(f"input_{index}" for index in range(len(known), len(places)))]
    elements = parse("\n".join(f"{place}:float()" for place in places))
    arguments = list(dict.fromkeys(element.argument for element in elements))
    if not is_positional(elements):
        return arguments
    return [known[index] if index < len(known) else f"input_{index}" for index in range(len(arguments))]
