"""Every name of the vendor's that the rooms for TensorRT use is in the releases that they claim to use it with.

A wrong name cannot wait for a GPU to show. What the vendor's classes do is not tested: their libraries are stand-ins.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

import engines.runtimes
from tests.unit.runtimes.nvidia.bindings import CUDA, RELEASES, NotFetchedError, Release
from tests.unit.runtimes.nvidia.names import used_names
from tests.unit.runtimes.standins import needs_compiler

pytestmark = needs_compiler

FILES = [file for folder in Path(engines.runtimes.__file__).parent.glob("tensorrt*") for file in folder.rglob("*.py")]
OBJECTS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "given": "ITensor",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
}
"""Classes of the variables to which the rooms give objects of the vendor's."""
USED = used_names(FILES, "trt", OBJECTS)

ALL = frozenset(release.name for release in RELEASES)
TYPED = ALL - {"8.6"}
RTX = frozenset({"RTX 1.7"})
DIFFERENCES = {
    "BuilderFlag.BF16": frozenset({"10.4", "10.16"}),
    "BuilderFlag.FP16": frozenset({"8.6", "10.4", "10.16"}),
    "BuilderFlag.INT8": frozenset({"8.6", "10.4", "10.16"}),
    "ComputeCapability": RTX,
    "ComputeCapability.__members__": RTX,
    "IBuilderConfig.num_compute_capabilities": RTX,
    "IBuilderConfig.progress_monitor": TYPED,
    "IBuilderConfig.set_compute_capability": RTX,
    "IProgressMonitor": TYPED,
    "IProgressMonitor.__init__": TYPED,
    "IProgressMonitor.phase_finish": TYPED,
    "IProgressMonitor.phase_start": TYPED,
    "IProgressMonitor.step_complete": TYPED,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": frozenset({"8.6", "10.4", "10.16"}),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": TYPED,
    "ParserError.node_name": TYPED,
    "ParserError.node_operator": TYPED,
}
"""Names that not all releases have, with those that do: the rooms ask for them before they use them."""
ALWAYS = (
    "ILogger.log",
    "IProfiler.report_layer_time",
    "ITensor.is_shape_tensor",
    "ITensor.name",
    "ParserError.code",
    "ParserError.desc",
    "ParserError.node",
)
"""Names that rooms override, or use of objects that have no variable of their own."""


@functools.cache
def had(release: Release) -> set[str]:
    try:
        return release.has({*USED, *DIFFERENCES, *ALWAYS})
    except NotFetchedError as error:
        pytest.skip(f"pip cannot fetch {release.requirements[0]}: {error}")


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_release_has_every_name_that_is_used_with_it(release: Release) -> None:
    missing = {
        name: sorted(places)
        for name, places in {**USED, **{name: {"overridden"} for name in ALWAYS}}.items()
        if release.name in DIFFERENCES.get(name, ALL) and name not in had(release)
    }
    assert len(USED) > 40, "the rooms use more names than these"
    assert not missing, f"{release.requirements[0]} has no such names"


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_the_differences_are_those_that_the_rooms_know(release: Release) -> None:
    has = {name for name in DIFFERENCES if name in had(release)}
    assert has == {name for name, releases in DIFFERENCES.items() if release.name in releases}


def test_cudas_runtime_has_every_function_that_is_used() -> None:
    used = used_names(FILES, "cudart", {})
    try:
        assert set(used) - CUDA.has(used) == set()
    except NotFetchedError as error:
        pytest.skip(f"pip cannot fetch {CUDA.requirements[0]}: {error}")


def test_names_are_found_in_code(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        "def made(trt, self, other):\n"
        "    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))\n"
        "    builder.create_network(1 << int(trt.Flag.TYPED)).mark(other.config)\n"
        "    self._config.set_flag(self._trt.BuilderFlag.TF32)\n"
    )
    assert set(used_names([code], "trt", OBJECTS)) == {
        *("Builder", "Logger", "Logger.ERROR", "Builder.create_network", "Flag.TYPED"),
        *("IBuilderConfig.set_flag", "BuilderFlag.TF32"),
    }
