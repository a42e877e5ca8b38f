"""Times of the steps of a torch network's call, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.runtimes.host import PROFILED_RUNS, usual_layers
from engines.runtimes.opened import OpenedForm
from engines.runtimes.protocol import Layer
from engines.runtimes.torch_networks.opener import CPU
from engines.tensors import Arrays

OUTSIDE = "outside operators"
"""Operator of what a call does outside torch's operators: fused kernels of a compiled network, or the interpreter."""
_CALL = "lathe call"


def profiled_layers(open_form: Callable[[], OpenedForm], feed: Arrays, on: str = CPU) -> list[Layer]:
    """Return the operators that a call runs, in order, and the time outside them; on a GPU, its kernels and copies.

    Torch keeps no names of nodes: a step is named by its number and operator, and shapes tell which layer it is.

    Args:
        open_form: Opens the form.
        feed: The inputs.
        on: Where it computes, by torch's name.
    """
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile, record_function

    opened = open_form()
    try:
        opened.run(feed)
        opened.run(feed)  # TorchScript specializes a program in its first two calls
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on != CPU else [])]
        with profile(activities=activities, record_shapes=True) as recorded:
            for _ in range(PROFILED_RUNS):
                with record_function(_CALL):
                    opened.run(feed)
    finally:
        opened.close()
    events = list(recorded.events())
    calls = [event for event in events if event.name == _CALL and event.device_type == DeviceType.CPU]
    return usual_layers([_layers(call) if on == CPU else _kernels(events, call) for call in calls])


def _layers(call: Any) -> list[Layer]:
    steps = _steps(call)
    found = []
    for number, event in enumerate(steps, start=1):
        operator = event.name.removeprefix("aten::")
        found.append(Layer(f"{number} {operator}{_shapes(event)}", operator, event.cpu_time_total / 1000))
    outside = call.cpu_time_total - sum(event.cpu_time_total for event in steps)
    return [*found, Layer(OUTSIDE, OUTSIDE, max(0.0, outside / 1000))]


def _kernels(events: list[Any], call: Any) -> list[Layer]:
    """Return what the GPU did during a call, which ends when the GPU has finished."""
    from torch._C._autograd import DeviceType

    during = [
        event
        for event in events
        if event.device_type == DeviceType.CUDA
        and event.name != _CALL
        and call.time_range.start <= event.time_range.start <= call.time_range.end
    ]
    during.sort(key=lambda event: event.time_range.start)
    return [
        Layer(f"{number} {event.name}", event.name, event.time_range.elapsed_us() / 1000, event.name)
        for number, event in enumerate(during, start=1)
    ]


def _steps(call: Any) -> list[Any]:
    """Return the operators that a call runs directly, or through the one method of a script."""
    steps: list[Any] = sorted(call.cpu_children, key=lambda event: event.time_range.start)
    method = next((event for event in steps if event.name == "forward"), None)
    return _steps(method) if method is not None else steps


def _shapes(event: Any) -> str:
    known = ["*".join(map(str, shape)) for shape in event.input_shapes or () if isinstance(shape, list) and shape]
    return f" ({', '.join(known[:2])})" if known else ""
