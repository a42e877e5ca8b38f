"""A job that says which step it may die of goes on without that step, in another process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Child, Limits
from services.tasks.worker.runner import MOST_DEATHS, ChildSlot
from tests.integration.sandbox.conftest import TESTS

LIMITS = Limits(512 << 20, 240)


async def run(tmp_path: Path, steps: dict[str, str], limits: Limits = LIMITS, **request: Any) -> tuple[Any, list[str]]:
    spawn = partial(Child.spawn, tmp_path / "work", readable=[TESTS])
    slot, lines = (
        ChildSlot(await spawn(), tmp_path / "work", "tests.integration.sandbox.step_jobs:steps", spawn),
        list[str](),
    )
    try:
        result = await slot.run({"steps": steps, **request}, limits, lambda _progress: None, lines.append)
        return result, lines
    finally:
        await slot.discard()
        assert not (tmp_path / "work").exists()


async def test_what_ends_the_process_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    steps = {"a": "SIGKILL", "b": "", "c": "SIGSEGV", "d": "memory", "e": ""}
    result, lines = await run(tmp_path, steps)
    assert result["dead"] == {"a": "OUT_OF_MEMORY", "c": "TOOLCHAIN_CRASHED", "d": "OUT_OF_MEMORY"}
    told = [line for line in lines if line.endswith("The work goes on without it, in another process.")]
    assert [line[:2] for line in told] == ["a:", "c:", "d:"]
    assert [line for line in lines if line.startswith("survived")] == ["survived b"] * 3 + ["survived e"]


async def test_who_dies_too_often_fails(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="SIGSEGV"):
        await run(tmp_path, {str(number): "SIGSEGV" for number in range(MOST_DEATHS + 1)})


@pytest.mark.parametrize(
    ("steps", "request_", "reason"),
    [
        ({"a": ""}, {"ends_outside": True}, FailureReason.OUT_OF_MEMORY),
        ({"a": "forbidden"}, {}, FailureReason.UNSAFE_MODEL),
    ],
)
async def test_nothing_else_is_tried_again(
    steps: dict[str, str], request_: dict[str, Any], reason: FailureReason, tmp_path: Path
) -> None:
    with pytest.raises(EngineFailure) as caught:
        await run(tmp_path, steps, **request_)
    assert caught.value.reason is reason


async def test_the_limit_of_time_is_one_for_all(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="limit of 3 s") as caught:
        await run(tmp_path, {"a": "SIGSEGV", "b": "sleep"}, Limits(512 << 20, 3))
    assert caught.value.reason is FailureReason.TIMEOUT
