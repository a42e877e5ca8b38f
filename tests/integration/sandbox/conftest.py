from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure
from engines.sandbox import Child, Limits

TESTS = Path(__file__).parents[2]
GENEROUS = Limits(1 << 30, 240)
Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Child]]]:
    """Spawn children in directories of their own; all are killed at the end."""
    children: list[Child] = []

    async def start(*preload: str) -> Child:
        child = await Child.spawn(tmp_path / f"work-{len(children)}", preload, readable=[TESTS])
        children.append(child)
        return child

    yield start
    for child in children:
        await child.kill()


@pytest.fixture
async def run(spawn: Callable[..., Awaitable[Child]]) -> Run:
    """Run one of the jobs in a new child and return its result."""

    async def one(job: str, request: dict[str, Any] | None = None, limits: Limits = GENEROUS, **listeners: Any) -> Any:
        child = await spawn()
        return await child.run(f"tests.integration.sandbox.jobs:{job}", request or {}, limits, **listeners)

    return one


@pytest.fixture
async def failure(run: Run) -> Run:
    """Run one of the jobs, which must fail, and return its failure."""

    async def one(job: str, request: dict[str, Any] | None = None, limits: Limits = GENEROUS, **listeners: Any) -> Any:
        with pytest.raises(EngineFailure) as caught:
            await run(job, request, limits, **listeners)
        return caught.value

    return one
