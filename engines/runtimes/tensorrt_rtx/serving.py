"""How plans of TensorRT-RTX are served: by the version that built them, on their chip. Triton has no backend."""

from __future__ import annotations

from engines.runtimes.serving import Serving, VersionRule
from engines.runtimes.tensorrt_rtx.opener import PACKAGES

SERVING = Serving(
    VersionRule.EXACT, PACKAGES, ("tensorrt_plans/memory.py", "tensorrt_plans/opener.py", "tensorrt_rtx/opener.py")
)
