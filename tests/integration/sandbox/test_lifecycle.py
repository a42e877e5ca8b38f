"""Spawning, killing and cancelling: nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import uvloop

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Child, Killed, Limits
from tests.integration.sandbox.conftest import GENEROUS, TESTS, Run

Spawn = Callable[..., Awaitable[Child]]
SLEEP = "tests.integration.sandbox.jobs:sleep"


def left_behind(workdir: Path) -> list[psutil.Process]:
    """Processes whose working directory or command line names the work directory."""
    return [
        process
        for process in psutil.process_iter(["cwd", "cmdline"])
        if str(workdir) in f"{process.info['cwd']} {process.info['cmdline']}"
    ]


async def test_fifty_children_leave_no_process_and_no_descriptor(tmp_path: Path) -> None:
    children_before = psutil.Process().children(recursive=True)
    await (await Child.spawn(tmp_path)).kill()
    before = _descriptors()
    for number in range(50):
        child = await Child.spawn(tmp_path)
        if number % 2:
            await child.ready()
        await child.kill()
    # Connections of other tests, and the servers' processes for them, may begin and end meanwhile.
    assert _descriptors() <= before
    started = set(psutil.Process().children(recursive=True)) - set(children_before)
    assert [name for process in started if "python" in (name := _name(process))] == []
    assert left_behind(tmp_path) == []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return ""


def _descriptors() -> int:
    """Return the number of open pipes, files and processes of this process, without its sockets."""
    targets = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append(os.readlink(f"/proc/self/fd/{entry}"))
    return sum(not target.startswith("socket:") for target in targets)


def test_the_event_loop_of_the_services_will_do(tmp_path: Path) -> None:
    async def job() -> int:
        async with await Child.spawn(tmp_path, readable=[TESTS]) as child:
            result = await child.run("tests.integration.sandbox.jobs:huge_result", {"bytes": 1 << 20}, GENEROUS)
        assert len(result["text"]) == 1 << 20
        return _descriptors()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        first = runner.run(job())  # the loop keeps a descriptor or two for itself
        # What other tests left open may be closed meanwhile.
        assert max(runner.run(job()) for _ in range(3)) <= first


async def test_kill_can_be_repeated_and_raced(spawn: Spawn) -> None:
    child = await spawn()
    await asyncio.gather(child.kill(), child.kill(), child.kill())
    await child.kill()
    assert not child.alive
    with pytest.raises(Killed):
        await child.ready()


async def test_kill_while_modules_are_imported(spawn: Spawn) -> None:
    child = await spawn("tests.integration.sandbox.endless_module")
    waiting = asyncio.create_task(child.ready())
    async with asyncio.timeout(60):
        while not (child.workdir / "importing").exists():
            await asyncio.sleep(0.01)
    await child.kill()
    with pytest.raises(Killed):
        await waiting
    assert left_behind(child.workdir) == []


async def test_kill_while_the_job_runs(spawn: Spawn) -> None:
    child = await spawn()
    started = asyncio.Event()
    running = asyncio.create_task(child.run(SLEEP, {}, GENEROUS, on_log=lambda _: started.set()))
    await started.wait()
    await child.kill()
    with pytest.raises(Killed) as caught:
        await running
    assert caught.value.retryable
    assert left_behind(child.workdir) == []


async def test_cancelling_the_caller_ends_the_job(spawn: Spawn) -> None:
    child = await spawn()
    started = asyncio.Event()
    running = asyncio.create_task(child.run(SLEEP, {}, GENEROUS, on_log=lambda _: started.set()))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not child.alive
    assert left_behind(child.workdir) == []


async def test_a_daemon_does_not_outlive_its_job(spawn: Spawn) -> None:
    child = await spawn()
    await child.run("tests.integration.sandbox.jobs:daemon", {}, GENEROUS)
    (child.workdir / "alive").unlink(missing_ok=True)
    assert left_behind(child.workdir) == []
    assert not (child.workdir / "alive").exists()


async def test_a_warm_child_takes_inputs_that_arrive_later(spawn: Spawn) -> None:
    child = await spawn("numpy")
    await child.ready()
    (child.workdir / "input").write_text("value = open('input').read()[:5]")
    source = (child.workdir / "input").read_text()
    result = await child.run("tests.integration.sandbox.jobs:user_code", {"source": source}, GENEROUS)
    assert result == {"value": "value"}


async def test_a_module_that_is_missing_is_named(spawn: Spawn) -> None:
    child = await spawn("json", "no_such_toolchain.backend")
    with pytest.raises(EngineFailure) as caught:
        await child.run(SLEEP, {}, GENEROUS)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "no_such_toolchain" in caught.value.message


async def test_a_file_in_the_work_directory_is_no_module(tmp_path: Path) -> None:
    """A model that brings a numpy.py along does not get it imported in place of the package."""
    for name in ("numpy.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    async with await Child.spawn(tmp_path, ["numpy", "json"]) as child:
        await child.ready()


async def test_a_child_does_one_job(run: Run, spawn: Spawn) -> None:
    child = await spawn()
    await child.run("tests.integration.sandbox.jobs:echo", {}, GENEROUS)
    with pytest.raises(RuntimeError, match="one job"):
        await child.run("tests.integration.sandbox.jobs:echo", {}, GENEROUS)


async def test_the_machine_itself_is_not_limited(run: Run) -> None:
    """The bound on processes belongs to the PID namespace of the child, not to the machine."""
    before = _pid_max()
    await run("echo")
    assert _pid_max() == before


@pytest.mark.parametrize(("memory", "seconds"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0)])
def test_limits_must_be_positive(memory: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Limits(memory, seconds)


def _pid_max() -> str:
    return Path("/proc/sys/kernel/pid_max").read_text()


async def test_what_a_job_starts_goes_before_it_where_memory_runs_out(run: Run) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert await run("expendables") == {"own": own, "started": 1000}
