"""TensorRT-RTX: plans for GPUs from SM 7.5 to 12.1, built on any x86-64 machine, with or without a GPU.

The chip is named to the builder. A plan holds intermediate code, which the runtime finishes when it is opened.
No release builds for SM 6.1, 7.0 or 9.0, and on SM 7.5 it has no matrix products in FP32, and no weights of four bits.
"""

from __future__ import annotations

from engines.runtimes.knobs import Knob
from engines.runtimes.protocol import Runtime
from engines.runtimes.tensorrt_plans.knobs import SHARED
from engines.runtimes.tensorrt_plans.room import PlanRuntime
from engines.runtimes.tensorrt_rtx.opener import PACKAGES


class TensorRtRtx(PlanRuntime):
    """TensorRT-RTX."""

    name = "tensorrt-rtx"
    title = "TensorRT-RTX"
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("tensorrt_rtx_bindings",)
    knobs: tuple[Knob, ...] = (
        SHARED  # it ignores hardware compatibility, and has no library for version-compatible plans
    )
    promise = 0.25


RUNTIME: Runtime = TensorRtRtx()
