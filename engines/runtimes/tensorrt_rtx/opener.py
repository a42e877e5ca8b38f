"""Opens a plan of TensorRT-RTX on a GPU. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

from collections.abc import Mapping

from ..opened import OpenedForm
from ..tensorrt_plans.opener import open_plan

PACKAGES = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "cuda-bindings")


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Open a plan as its options say; the threads of the host do not matter."""
    import tensorrt_rtx_bindings as trt

    return open_plan(trt, path, options)
