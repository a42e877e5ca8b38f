"""The optimizer service: `python -m services.optimizer.main`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engines.spec.devices import load_catalog
from services.optimizer.kind import OptimizationKind
from services.optimizer.optimization_servicer import OptimizationServicer
from services.optimizer.profiles.kind import ProfileKind
from services.optimizer.saver import Saver
from services.process.composition import Platform
from services.process.server import ServiceParts, run
from services.tasks.api.scaler import Scaler
from services.tasks.api.service import TaskEngine, task_service
from services.tasks.api.servicer import Method

STAY = "EXISTS (SELECT FROM model_saves s WHERE s.parent = 'optimizationTasks/' || {0}.uid)"
"""What was saved, or is being saved, names the task that recommended it."""


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: a task engine with optimizations and saving, and one with profiles."""
    savers: list[Saver] = []

    def more(engine: TaskEngine) -> Mapping[str, Method]:
        savers.append(Saver(platform, engine))
        return OptimizationServicer(savers[0], engine.handlers.row).methods

    kind = OptimizationKind(platform.channel("registry"), platform.channel("template"), platform.cas, platform.database)
    scaler = Scaler("optimizer", load_catalog().devices)
    parts = await task_service(platform, kind, scaler, more, stay=STAY)
    optimizations = replace(parts, background=[*parts.background, savers[0].operations.runner.run])
    profiles = ProfileKind(platform.channel("registry"), platform.channel("template"), platform.cas)
    profiling = await task_service(await platform.of_part("profiles"), profiles, scaler)
    return optimizations.beside(profiling).beside(scaler.parts)


if __name__ == "__main__":
    run("optimizer", build)
