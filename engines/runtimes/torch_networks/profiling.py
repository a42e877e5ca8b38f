"""Times of the steps of a torch network's call, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.runtimes.host import PROFILED_RUNS, usual_layers
from engines.runtimes.opened import OpenedForm
from engines.runtimes.protocol import Layer
from engines.tensors import Arrays

OUTSIDE = "outside operators"
"""Operator of what a call does outside torch's operators: fused kernels of a compiled network, or the interpreter."""
_CALL = "lathe call"


def profiled_layers(open_form: Callable[[], OpenedForm], feed: Arrays) -> list[Layer]:
    """Return the operators that a call runs, in order, and the time outside them.

    Torch keeps no names of nodes: a step is named by its number and operator, and shapes tell which layer it is.

    Args:
        open_form: Opens the form.
        feed: The inputs.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    opened = open_form()
    try:
        opened.run(feed)
        opened.run(feed)  # TorchScript specializes a program in its first two calls
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
            for _ in range(PROFILED_RUNS):
                with record_function(_CALL):
                    opened.run(feed)
    finally:
        opened.close()
    return usual_layers([_layers(event) for event in recorded.events() if event.name == _CALL])


def _layers(call: Any) -> list[Layer]:
    steps = _steps(call)
    found = []
    for number, event in enumerate(steps, start=1):
        operator = event.name.removeprefix("aten::")
        found.append(Layer(f"{number} {operator}{_shapes(event)}", operator, event.cpu_time_total / 1000))
    outside = call.cpu_time_total - sum(event.cpu_time_total for event in steps)
    return [*found, Layer(OUTSIDE, OUTSIDE, max(0.0, outside / 1000))]


def _steps(call: Any) -> list[Any]:
    """Return the operators that a call runs directly, or through the one method of a script."""
    steps: list[Any] = sorted(call.cpu_children, key=lambda event: event.time_range.start)
    method = next((event for event in steps if event.name == "forward"), None)
    return _steps(method) if method is not None else steps


def _shapes(event: Any) -> str:
    known = ["*".join(map(str, shape)) for shape in event.input_shapes or () if isinstance(shape, list) and shape]
    return f" ({', '.join(known[:2])})" if known else ""
