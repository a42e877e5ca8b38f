"""The optimizer service: `python -m services.optimizer.main`."""

from __future__ import annotations

from collections.abc import Mapping

from engines.spec.devices import load_catalog
from services.common.platform import Platform
from services.common.server import ServiceParts, run
from services.common.tasks.service import TaskEngine, task_service
from services.common.tasks.servicer import Unary
from services.optimizer.groups import Groups
from services.optimizer.kind import OptimizationKind
from services.optimizer.members import Members
from services.optimizer.optimization_servicer import OptimizationServicer
from services.optimizer.saving import Saver


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: the task engine with optimizations, saving, and groups of tasks."""

    def more(engine: TaskEngine) -> Mapping[str, Unary]:
        groups = Groups(platform.database, engine.handlers, Members(engine.ledger))
        return OptimizationServicer(Saver(platform, engine), groups).methods

    kind = OptimizationKind(platform.channel("registry"), platform.channel("template"), platform.cas, platform.database)
    return await task_service(platform, kind, load_catalog().devices, more)


if __name__ == "__main__":
    run("optimizer", build)
