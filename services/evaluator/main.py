"""The evaluator service: `python -m services.evaluator.main`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engines.spec.devices import load_catalog
from services.evaluator.comparer import Comparer
from services.evaluator.comparisons import Comparisons
from services.evaluator.evidence import Evidence
from services.evaluator.importing import Imports
from services.evaluator.kind import EvaluationKind
from services.process.composition import Platform
from services.process.confinement import require_confinement
from services.process.server import ServiceParts, run
from services.tasks.api.scaler import Scaler
from services.tasks.api.service import TaskEngine, task_service
from services.tasks.api.servicer import Method

STAY = "EXISTS (SELECT FROM comparisons c WHERE c.tasks @> ARRAY[{0}.name])"
"""The sides of comparisons, which may still be read beside them."""


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: the task engine with evaluations, comparisons of them, and imports."""
    await require_confinement(platform.settings)
    comparer = Comparer(platform.cas, platform.settings.work_dir)
    made: list[Comparisons] = []

    def comparisons(engine: TaskEngine) -> Mapping[str, Method]:
        made.append(Comparisons(platform, comparer, engine.handlers))
        engine.retention.first.append(made[0].expire)
        return {**made[0].methods, "ImportEvaluation": Imports(platform, engine.handlers).import_evaluation}

    kind = EvaluationKind(platform.channel("registry"), platform.cas)
    scaler = Scaler("evaluator", load_catalog().devices)
    evidence = Evidence(platform.channel("registry"))
    parts = await task_service(platform, kind, scaler, comparisons, stay=STAY, named=evidence.among)
    return replace(parts, background=[*parts.background, made[0].operations.runner.run]).beside(scaler.parts)


if __name__ == "__main__":
    run("evaluator", build)
