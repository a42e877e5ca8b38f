"""Jobs on one accelerator take turns, whichever process runs them."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from engines.failures import EngineFailure
from engines.runtimes.nvidia import gpus
from engines.runtimes.nvidia.gpus import Gpu, Gpus
from engines.sandbox import Limits, Progress
from engines.spec.devices import load_catalog
from services.tasks.worker.process import turns_on
from services.tasks.worker.runner import SandboxRunner
from services.tasks.worker.turn import Turn
from tests.eventually import PATIENCE_SECONDS, eventually


async def test_a_job_waits_for_the_turn_of_another_and_says_so(tmp_path: Path) -> None:
    first, second, said = Turn(tmp_path / "turns" / "gpu.lock"), Turn(tmp_path / "turns" / "gpu.lock"), list[Progress]()
    await first.take(said.append)
    await first.take()
    waiting = asyncio.create_task(second.take(said.append))
    await eventually(lambda: bool(said))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert [progress.message for progress in said] == ["Waiting for the accelerator, on which another task runs"]
    first.end()
    first.end()
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    second.end()


async def test_a_job_that_is_stopped_while_it_waits_leaves_no_turn_behind(tmp_path: Path) -> None:
    held, waits, later = (Turn(tmp_path / "gpu.lock") for _ in range(3))
    await held.take()
    waiting = asyncio.create_task(waits.take())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.end()
    await asyncio.wait_for(later.take(), PATIENCE_SECONDS)
    later.end()


async def test_a_slot_holds_its_turn_until_its_job_has_ended(tmp_path: Path) -> None:
    turns, limits = tmp_path / "gpu.lock", Limits(1 << 30, 60)
    runner = SandboxRunner((), tmp_path / "work", turns=turns)
    slot = await runner.acquire("time:sleep")
    assert not turns.exists(), "a child that waits for work has no turn"
    with pytest.raises(EngineFailure, match="takes exactly one argument"):
        await slot.run({}, limits, lambda _progress: None, lambda _line: None)
    assert is_held(turns), "its process may still be on the accelerator"
    await slot.discard()
    assert not is_held(turns)


def is_held(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_turns_are_of_the_gpu_that_forms_compute_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    devices = load_catalog().devices
    monkeypatch.setattr(gpus, "gpus", lambda: Gpus((Gpu("Tesla T4", "1-2-3", "sm_75", "580"),)))
    assert turns_on(devices["nvidia-t4"], tmp_path) == tmp_path / "turns" / "1-2-3.lock"
    assert turns_on(devices["nvidia-a10"], tmp_path) is None
    assert turns_on(devices["cpu-x86-64"], tmp_path) is None
