"""Decisions that code takes by a tensor's value while it is traced: the trace holds what was decided, not the rule.

torch warns of each conversion of a traced tensor to a number or a boolean. It warns of constants of the network, too,
such as the scales of quantized modules, and names its own files. Here the trace itself tells whether an input decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

_CONVERSIONS = ("__bool__", "__int__", "__float__", "__index__", "__array__", "item", "numpy", "tolist")
_OF_SHAPES = frozenset({"aten::size", "aten::numel"})
"""Nodes that give shapes, whose values the trace holds as nodes of their own."""
_ENGINES = Path(__file__).parents[2]


@contextmanager
def decisions(inputs: int, *, fixed_shapes: bool) -> Iterator[dict[str, None]]:
    """Give the places of code, `net.py:12`, that take a value from a tensor that depends on an input, in their order.

    Args:
        inputs: How many tensors the network takes.
        fixed_shapes: Whether no shape varies, so that what follows from shapes alone is always decided the same. If
            some do, torch's own checks of shapes are still left out.
    """
    import torch

    is_tracing: Any = torch.jit.is_tracing  # type: ignore[attr-defined]
    torch_folder = Path(torch.__file__).parent
    places: dict[str, None] = {}

    def watched(convert: Callable[..., Any]) -> Callable[..., Any]:
        def converted(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            caller = sys._getframe(1)
            if is_tracing() and _depends(tensor, inputs, by_shapes=not (fixed_shapes or _is_in(torch_folder, caller))):
                places[_place(caller, torch_folder)] = None
            return convert(tensor, *arguments, **options)

        return converted

    with ExitStack() as patches:
        for name in _CONVERSIONS:
            patches.enter_context(patch.object(torch.Tensor, name, watched(getattr(torch.Tensor, name))))
        yield places


def decision_warnings(places: Sequence[str]) -> tuple[str, ...]:
    """Return what to know of a network that decides by values, of which tracing records one decision."""
    if not places:
        return ()
    return (
        f"Tracing recorded the decisions at {', '.join(places)} as the samples made them, and every form keeps to "
        "them: an input that decides otherwise gets a wrong result, which samples that all decide alike cannot show. "
        "Write them with tensor operators (torch.where instead of if), or test with samples that take every "
        "branch.",
    )


def _depends(tensor: torch.Tensor, inputs: int, *, by_shapes: bool) -> bool:
    """Return whether the trace computes a tensor from one of its first inputs; parameters come behind these."""
    import torch

    tracer: Any = torch._C
    seen, waiting = set(), [tracer._get_value_trace(tensor)]
    while waiting:
        value = waiting.pop()
        if value.debugName() in seen:
            continue
        seen.add(value.debugName())
        node = value.node()
        if node.kind() == "prim::Param":
            given = [each.debugName() for each in node.outputs() if each.type().kind() != "ClassType"]
            if value.debugName() in given[:inputs]:
                return True
        elif by_shapes or node.kind() not in _OF_SHAPES:
            waiting += node.inputs()
    return False


def _place(caller: FrameType, torch_folder: Path) -> str:
    """Return the innermost line outside of torch and of this package, by its path below where it is imported from."""
    frame = caller
    while frame.f_back and (_is_in(torch_folder, frame) or _is_in(_ENGINES, frame)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    below = [str(path.relative_to(root)) for root in sys.path if Path(root).is_absolute() and path.is_relative_to(root)]
    return f"{min(below, key=len, default=path.name)}:{frame.f_lineno}"


def _is_in(folder: Path, frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).is_relative_to(folder)
