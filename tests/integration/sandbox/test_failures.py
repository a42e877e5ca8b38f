"""Jobs that end badly: each has one reason, a sentence, and evidence."""

from __future__ import annotations

import pytest

from engines.failures import FailureReason
from engines.sandbox import Limits
from engines.sandbox.frames import encode
from tests.integration.sandbox.conftest import Run


async def test_endless_loop_is_stopped_and_shows_where_it_was(failure: Run) -> None:
    error = await failure("loop_forever", limits=Limits(1 << 30, 5))  # within which it is under way
    assert error.reason is FailureReason.TIMEOUT
    assert "limit of 5 s" in error.message
    assert "25%: going round" in error.message
    assert "in loop_forever" in error.evidence


@pytest.mark.parametrize("job", ["allocate_bytes", "allocate_numpy", "allocate_torch"])
async def test_100_gb_at_once_is_refused(failure: Run, job: str) -> None:
    error = await failure(job)
    assert error.reason is FailureReason.OUT_OF_MEMORY
    assert "memory" in error.message


async def test_memory_that_grows_is_stopped_with_the_figures(failure: Run) -> None:
    error = await failure("grow", limits=Limits(256 << 20, 240))
    assert error.reason is FailureReason.OUT_OF_MEMORY
    assert error.message.endswith("its limit is 256 MiB.")


async def test_memory_of_grandchildren_counts(failure: Run) -> None:
    error = await failure("grow_in_children", limits=Limits(256 << 20, 240))
    assert error.reason is FailureReason.OUT_OF_MEMORY


async def test_fork_bomb_is_stopped(failure: Run) -> None:
    error = await failure("fork_bomb", limits=Limits(4 << 30, 240))
    assert error.reason is FailureReason.UNSAFE_MODEL
    assert "processes" in error.message


async def test_sys_exit_is_no_result(failure: Run) -> None:
    error = await failure("exit_normally")
    assert error.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "sys.exit(7)" in error.message


async def test_os_exit_is_no_result(failure: Run) -> None:
    error = await failure("exit_at_once")
    assert error.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "exit status 7" in error.message
    assert "last words" in error.evidence


@pytest.mark.parametrize(("job", "name"), [("crash", "SIGSEGV"), ("abort", "SIGABRT"), ("recurse_natively", "SIGSEGV")])
async def test_a_crash_names_its_signal_and_its_place(failure: Run, job: str, name: str) -> None:
    error = await failure(job)
    assert error.reason is FailureReason.TOOLCHAIN_CRASHED
    assert name in error.message
    assert "tests/integration/sandbox/jobs.py" in error.evidence


async def test_sigkill_from_elsewhere_is_suspected_memory(failure: Run) -> None:
    error = await failure("kill_itself")
    assert error.reason is FailureReason.OUT_OF_MEMORY
    assert "SIGKILL" in error.message
    assert "most likely" in error.message


async def test_deep_recursion_is_an_error_like_others(failure: Run) -> None:
    error = await failure("recurse")
    assert error.reason is FailureReason.INTERNAL_ERROR
    assert "RecursionError" in error.message


async def test_closing_the_control_pipe_ends_the_job(failure: Run) -> None:
    error = await failure("close_descriptors")
    assert error.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "closed the control pipe" in error.message


@pytest.mark.parametrize(
    "garbage", ["not a message at all", "LTH1\xff\xff\xff\xff", "LTH1\x02\x00\x00\x00[]", "LTH1\x01\x00\x00\x00{"]
)
async def test_garbage_on_the_control_pipe_ends_the_job(failure: Run, garbage: str) -> None:
    error = await failure("garbage_on_control", {"garbage": garbage})
    assert error.reason is FailureReason.TOOLCHAIN_CRASHED
    assert "control pipe" in error.message


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "failure", "failure": 5},
        {"kind": "failure", "failure": {"reason": "NO_SUCH_REASON", "message": "m"}},
        {"kind": "failure", "failure": {"reason": "INVALID_MODEL", "message": "m", "surprise": 1}},
        {"kind": "progress", "fraction": "much", "message": ""},
        {"kind": "ready", "layers": 1, "result": {}},
        {"no": "kind"},
    ],
)
async def test_forged_messages_do_no_harm(failure: Run, message: dict[str, object]) -> None:
    error = await failure("garbage_on_control", {"garbage": encode(message).decode("latin-1")}, Limits(1 << 30, 2))
    assert error.reason in (FailureReason.TOOLCHAIN_CRASHED, FailureReason.TIMEOUT)


async def test_a_result_must_be_json(failure: Run) -> None:
    assert "set is not JSON serializable" in (await failure("not_json")).message


async def test_a_result_must_be_a_dict(failure: Run) -> None:
    assert "returned a int, not a dict" in (await failure("not_a_dict")).message


async def test_an_entry_that_does_not_exist(failure: Run) -> None:
    error = await failure("no_such_job")
    assert error.reason is FailureReason.INTERNAL_ERROR
    assert "no_such_job" in error.message
