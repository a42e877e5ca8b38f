"""The engines of an evaluation, run in this process: what the sandboxed child of a worker does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engines.sandbox import Progress, Reporter
from services.tasks.worker.runner import Slot


async def evaluate(
    request: dict[str, Any], slot: Slot, on_progress: Callable[[Progress], None], on_log: Callable[[str], None]
) -> dict[str, Any]:
    """Evaluate."""
    from engines.api.evaluation import run

    return await asyncio.to_thread(run, request, slot.workdir, Reporter(lambda progress: None))
