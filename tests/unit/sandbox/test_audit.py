"""Which code caused an event, and what exceptions mean; children test the hook itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.sandbox.audit import Auditor
from engines.sandbox.faults import from_exception, from_import
from engines.sandbox.paths import code_roots


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path, code_roots([Path(__file__).parent]), lambda failure: None)


def call_from(file: str, source: str = "def f(g):\n    return g()") -> Callable[[Callable[[], Any]], Any]:
    """Return a function that calls its argument, as if it were defined in `file`."""
    namespace: dict[str, Any] = {}
    exec(compile(source, file, "exec"), namespace)
    return namespace["f"]  # type: ignore[no-any-return]


def judged(auditor: Auditor) -> Callable[[], tuple[str, int] | None]:
    return lambda: auditor.user_frame(sys._getframe(1))


def test_a_file_in_the_work_directory_is_untrusted(auditor: Auditor, tmp_path: Path) -> None:
    name = str(tmp_path / "net.py")
    assert call_from(name)(judged(auditor)) == (name, 2)


def test_trusted_code_that_a_model_calls_is_trusted(auditor: Auditor, tmp_path: Path) -> None:
    library = partial(call_from(__file__), judged(auditor))
    assert call_from(str(tmp_path / "net.py"))(library) is None


def test_text_that_was_executed_acts_for_its_caller(auditor: Auditor, tmp_path: Path) -> None:
    text = partial(call_from("<string>"), judged(auditor))
    name = str(tmp_path / "net.py")
    assert text() is None  # called by this file, which is trusted
    assert call_from(name)(text) == (name, 2)


def test_the_standard_library_acts_for_its_caller_but_not_when_it_imports_itself(
    auditor: Auditor, tmp_path: Path
) -> None:
    name = str(tmp_path / "net.py")
    library = partial(call_from(shutil.__file__), judged(auditor))
    importing = partial(call_from("<frozen importlib._bootstrap>"), library)
    assert call_from(name)(library) == (name, 2)
    assert call_from(name)(importing) is None


@pytest.mark.parametrize(
    ("file", "untrusted"), [("/somewhere/else.py", True), ("net.py", True), (__file__, False), ("<string>", False)]
)
def test_files_are_judged_by_their_location(auditor: Auditor, file: str, untrusted: bool) -> None:
    assert auditor.is_user_file(file) is untrusted


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_way_to_run_out_of_memory_has_one_reason(auditor: Auditor, error: Exception) -> None:
    assert from_exception(error, auditor).reason is FailureReason.OUT_OF_MEMORY


def test_a_failure_of_the_engine_is_passed_on(auditor: Auditor) -> None:
    failure = EngineFailure(FailureReason.SHAPE_MISMATCH, "m")
    assert from_exception(failure, auditor) is failure


def test_an_error_in_the_models_file_names_its_line(auditor: Auditor, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        call_from(str(tmp_path / "net.py"))(lambda: 1 // 0)
    failure = from_exception(caught.value, auditor)
    assert failure.reason is FailureReason.INVALID_ARCHITECTURE
    assert failure.node == "net.py:2"


@pytest.mark.parametrize("number", [1, 13, 30])
def test_a_call_that_the_kernel_refused_makes_the_model_unsafe(auditor: Auditor, tmp_path: Path, number: int) -> None:
    def refuse() -> None:
        raise OSError(number, "refused", "/etc/shadow")

    with pytest.raises(OSError, match="refused") as caught:
        call_from(str(tmp_path / "net.py"))(refuse)
    failure = from_exception(caught.value, auditor)
    assert failure.reason is FailureReason.UNSAFE_MODEL
    assert "/etc/shadow" in failure.message


def test_a_missing_module_is_named_where_it_is_missing() -> None:
    failure = from_import("engines.runtimes.x", ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"))
    assert failure.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "the module tensorrt is not installed" in failure.message
    assert "libcuda.so.1" in from_import("torch", OSError("libcuda.so.1: cannot open shared object")).message
