"""The settings of a build that differ from Lathe's defaults, and what they set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.runtimes.knobs import Knob
from engines.runtimes.tensorrt_plans import opener

WORKSPACE = Knob(
    "workspace_mib", "chips whose memory other models need, too: most memory of one layer's scratch, in MiB"
)
LEVEL = Knob(
    "optimization_level",
    "builds that take too long (0 to 2), or models for which every microsecond counts (4 and 5); usual is 3",
    {str(level): f"optimization level {level}" for level in range(6)},
)
TF32 = Knob("tf32", "FP32 on Ampere and later, if ten bits of fraction are enough", {"on": "products in TF32"})
CUDA_GRAPH = Knob(
    opener.CUDA_GRAPH,
    "models whose calls cannot be captured: a call of fixed shapes is one launch otherwise",
    {"off": "without CUDA graphs"},
)
VERSIONS = Knob(
    opener.VERSION_COMPATIBLE,
    "plans that later releases of the same major version run; the plan carries code of its own",
    {"on": "for later versions, too"},
)
HARDWARE = Knob(
    opener.HARDWARE_COMPATIBLE,
    "plans for several chips, at the price of speed",
    {"AMPERE_PLUS": "for Ampere and later", "SAME_COMPUTE_CAPABILITY": "for every chip of the same compute capability"},
)
SHARED = (WORKSPACE, LEVEL, TF32, CUDA_GRAPH)
"""Knobs of every release."""


def set_knobs(trt: Any, config: Any, knobs: Mapping[str, str]) -> None:
    """Set a builder's configuration as knobs say. TF32 is off unless asked for: FP32 is what the graph says."""
    if TF32.name not in knobs:
        config.clear_flag(trt.BuilderFlag.TF32)
    if WORKSPACE.name in knobs:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(knobs[WORKSPACE.name]) << 20)
    if LEVEL.name in knobs:
        config.builder_optimization_level = int(knobs[LEVEL.name])
    if VERSIONS.name in knobs:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if HARDWARE.name in knobs:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.__members__[knobs[HARDWARE.name]]
