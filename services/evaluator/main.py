"""The evaluator service: `python -m services.evaluator.main`."""

from __future__ import annotations

from collections.abc import Mapping

from engines.spec.devices import load_catalog
from services.evaluator.comparer import Comparer
from services.evaluator.comparison_servicer import ComparisonServicer
from services.evaluator.comparisons import Comparisons
from services.evaluator.kind import EvaluationKind
from services.process.composition import Platform
from services.process.server import ServiceParts, run
from services.tasks.api.service import TaskEngine, task_service
from services.tasks.api.servicer import Unary


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: the task engine with evaluations, and comparisons of them."""

    def comparisons(engine: TaskEngine) -> Mapping[str, Unary]:
        made = Comparisons(platform.database, Comparer(platform.cas), engine.handlers)
        return ComparisonServicer(made).methods

    kind = EvaluationKind(platform.channel("registry"), platform.cas)
    return await task_service(platform, kind, load_catalog().devices, comparisons)


if __name__ == "__main__":
    run("evaluator", build)
