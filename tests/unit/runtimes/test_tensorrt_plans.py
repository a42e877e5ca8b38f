"""What both TensorRTs share: explained failures, progress, and the interfaces that the opener calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from engines.failures import FailureReason
from engines.runtimes.tensorrt_plans import memory, opener
from engines.runtimes.tensorrt_plans.builder import use_timings
from engines.runtimes.tensorrt_plans.refusals import failed_build, refused_by_parser
from engines.runtimes.tensorrt_plans.vendor import ParserError
from engines.runtimes.tensorrt_plans.watching import Watch
from engines.runtimes.timings import given_name, read_timings, write_timings
from engines.sandbox.deadline import at_most
from tests.unit.runtimes import graphs

NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at /_src/x.cpp:250 "
    "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
SAID = [
    (
        "[virtualMemoryBuffer.cpp::resizePhysical::160] Error Code 2: OutOfMemory (no further information)",
        "OUT_OF_MEMORY",
    ),
    (
        "Error Code 1: Myelin ([tactic.cpp:1676: enumerate_tactics] Tactic Selection: no tactics to implement the "
        "operation within workspace limit. Consider increase the allowed workspace size if applicable.",
        "OUT_OF_MEMORY",
    ),
    (
        "[optimizer.cpp::computeCosts::2011] Error Code 10: Internal Error (Could not find any implementation for node "
        "multiply.)",
        "UNSUPPORTED_OPERATOR",
    ),
    (
        "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid optimization profiles for input tensors "
        "x, please ensure that the optimization profiles satisfy MIN<=OPT<=MAX. In isValid at /_src/a.cpp:367)",
        "INVALID_SPEC",
    ),
    (
        "Error Code 4: API Usage Error (Dynamic input tensor x is missing dimensions in profile 0. In v at a)",
        "INVALID_SPEC",
    ),
    (
        "Error Code 4: (Network has dynamic or shape inputs, but no optimization profile has been defined.",
        "INVALID_SPEC",
    ),
    ("Target GPU SM 70 is not supported by this TensorRT release.", "TOOLCHAIN_UNAVAILABLE"),
    ("Error Code 2: Internal Error (Assertion engine != nullptr failed. )", "TOOLCHAIN_CRASHED"),
]


@pytest.mark.parametrize(("text", "reason"), SAID)
def test_what_a_builder_says_is_a_reason_and_advice(text: str, reason: str, tmp_path: Path) -> None:
    path, _ = graphs.linear(tmp_path / "g.onnx")
    failure = failed_build("TensorRT", path, [NO_DRIVER, text, NO_DRIVER])
    assert failure.reason.value == reason
    assert failure.suggested_fix
    assert "TensorRT" in failure.message or "'x'" in failure.message or "input" in failure.message
    assert "cudaError 35" not in failure.evidence


def test_an_implementation_that_is_missing_for_want_of_memory_names_its_node(tmp_path: Path) -> None:
    path, _ = graphs.linear(tmp_path / "g.onnx")
    failure = failed_build("TensorRT", path, [SAID[2][0], SAID[0][0]])
    assert failure.reason is FailureReason.OUT_OF_MEMORY
    assert (failure.node, failure.operator) == ("multiply", "MatMul")


def test_a_build_that_fails_without_a_word_is_a_crash(tmp_path: Path) -> None:
    failure = failed_build("TensorRT", tmp_path / "absent.onnx", [])
    assert failure.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "its log has no error" in failure.message


@pytest.mark.parametrize(
    ("error", "reason", "node"),
    [
        (ParserError("UNSUPPORTED_NODE", "false", 0, "", ""), "UNSUPPORTED_OPERATOR", "multiply"),  # as 8.6 tells it
        (
            ParserError("UNSUPPORTED_NODE_DATATYPE", "no UINT16 here", 2, "best", "ArgMax"),
            "UNSUPPORTED_OPERATOR",
            "best",
        ),
        (ParserError("MODEL_DESERIALIZE_FAILED", "Failed to parse", -1, "", ""), "INVALID_MODEL", ""),
        (ParserError("MEM_ALLOC_FAILED", "", -1, "", ""), "OUT_OF_MEMORY", ""),
    ],
)
def test_a_parser_error_names_the_node(error: ParserError, reason: str, node: str, tmp_path: Path) -> None:
    path, _ = graphs.linear(tmp_path / "g.onnx")
    failure = refused_by_parser("TensorRT", path, [error])
    assert (failure.reason.value, failure.node) == (reason, node)
    assert bool(failure.operator) is bool(node)


def test_nested_phases_are_one_progress() -> None:
    told: list[tuple[float, str]] = []
    watch = Watch(lambda part, words: told.append((round(part, 3), words)))
    watch.start("build", None, 2)
    watch.start("parse", "build", 4)
    assert all(watch.step("parse", step) for step in range(4))
    watch.finish("parse")
    watch.step("build", 0)
    watch.start("tactics", "build", 2)
    watch.step("tactics", 0)
    watch.start("unknown parent", "nobody", 1)
    watch.step("never started", 7)
    assert told == [
        (0.0, "build"),
        (0.125, "parse"),
        (0.25, "parse"),
        (0.375, "parse"),
        (0.5, "parse"),
        (0.75, "tactics"),
    ]


def test_a_watch_ends_a_build_when_time_is_up() -> None:
    with at_most(-1):
        watch = Watch(lambda _part, _words: None)
    watch.start("build", None, 1)
    assert not watch.step("build", 0)
    assert watch.stopped


class StandInCache:
    """Plays a timing cache: of the chip if it begins with `a`. TensorRT gives none of bytes that it cannot read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def combine(self, other: StandInCache, ignore_mismatch: bool) -> bool:
        taken = ignore_mismatch or other.data.startswith(b"a")
        self.data += other.data if taken else b""
        return taken


class StandInConfig:
    """Plays a builder's configuration."""

    def __init__(self) -> None:
        self.cache: StandInCache | None = None

    def create_timing_cache(self, data: bytes) -> StandInCache | None:
        return None if data == b"damaged" else StandInCache(data)

    def set_timing_cache(self, cache: StandInCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> StandInCache | None:
        return self.cache


def test_timing_caches_of_this_chip_are_merged_and_others_left_aside() -> None:
    config = StandInConfig()
    assert use_timings(config, [b"a1", b"damaged", b"b", b"a2"]).data == b"a1a2"
    assert use_timings(config, []).data == b""
    config.cache = None
    assert use_timings(config, None) is None
    assert config.cache is None


def test_one_runtimes_timings_are_not_anothers(tmp_path: Path) -> None:
    assert not read_timings(tmp_path / "none", "tensorrt")
    for runtime in ("tensorrt", "tensorrt-rtx"):
        (tmp_path / given_name(runtime, 0)).write_bytes(runtime.encode())
    assert read_timings(tmp_path, "tensorrt") == [b"tensorrt"]
    write_timings(tmp_path, "tensorrt-rtx", b"more")
    assert (read_timings(tmp_path, "tensorrt"), read_timings(tmp_path, "tensorrt-rtx")) == ([b"tensorrt"], [b"more"])


def test_the_opener_calls_what_cuda_has() -> None:
    from cuda.bindings import runtime as cudart

    trees = [ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")) for module in (opener, memory)]
    chains = {ast.unparse(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = [chain.split(".")[1:] for chain in chains if chain.startswith("cudart.")]
    assert len(called) > 20
    for names in called:
        found: object = cudart
        for name in names:
            found = getattr(found, name)
