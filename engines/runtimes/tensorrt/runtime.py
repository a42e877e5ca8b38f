"""TensorRT: plans built on the chip that runs them, whose kernels are chosen by timing them there.

One code builds with the releases 8.6 (the last for SM 6.1), 10 (10.4 is the last for SM 7.0) and 11; their differences
are in `tensorrt_plans/vendor.py`.
"""

from __future__ import annotations

from engines.runtimes.knobs import Knob
from engines.runtimes.protocol import Runtime
from engines.runtimes.tensorrt.opener import PACKAGES
from engines.runtimes.tensorrt_plans.knobs import HARDWARE, SHARED, VERSIONS
from engines.runtimes.tensorrt_plans.room import PlanRuntime


class TensorRt(PlanRuntime):
    """TensorRT."""

    name = "tensorrt"
    title = "TensorRT"
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("tensorrt",)
    knobs: tuple[Knob, ...] = (*SHARED, VERSIONS, HARDWARE)
    promise = 0.5
    keeps_timings = True


RUNTIME: Runtime = TensorRt()
