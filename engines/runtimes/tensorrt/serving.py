"""How plans of TensorRT are served: by the version that built them, on their chip, unless they are built for more.

Triton's backend opens `model.plan`. It deserializes a version-compatible plan only if it is started with
`--backend-config=tensorrt,version-compatible=true`, because such a plan holds code for the host. Source: README.md and
src/ of triton-inference-server/tensorrt_backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from engines.runtimes.serving import Serving, TritonBackend, TritonSettings, VersionRule
from engines.runtimes.tensorrt.opener import PACKAGES
from engines.runtimes.tensorrt_plans.opener import ARCHITECTURE, CUDA_GRAPH, VERSION_COMPATIBLE, runs_on_chip

_FLAG = (
    "The plan is version-compatible, and holds code for the host: Triton opens it if it is started with "
    "--backend-config=tensorrt,version-compatible=true."
)


def _versions(options: Mapping[str, str]) -> VersionRule | None:
    return VersionRule.SAME_MAJOR if options.get(VERSION_COMPATIBLE) == "on" else None


def _also_on(options: Mapping[str, str], architecture: str) -> bool:
    return ARCHITECTURE in options and runs_on_chip(options, architecture)


def _settings(options: Mapping[str, str], _batch: int) -> TritonSettings:
    graphs = {} if options.get(CUDA_GRAPH) == "off" else {"optimization": {"cuda": {"graphs": True}}}
    return TritonSettings({"lathe.note": _FLAG if options.get(VERSION_COMPATIBLE) == "on" else ""}, graphs)


SERVING = Serving(
    VersionRule.EXACT,
    PACKAGES,
    ("tensorrt_plans/memory.py", "tensorrt_plans/opener.py", "tensorrt/opener.py"),
    TritonBackend(
        "tensorrt",
        "model.plan",
        _settings,
        unsupported=frozenset({"float64", "int16", "uint16", "uint32", "uint64", "string"}),
        instances="KIND_GPU",
    ),
    versions_of=_versions,
    also_on=_also_on,
)
