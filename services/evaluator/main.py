"""The evaluator service: `python -m services.evaluator.main`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED

from engines.spec.devices import load_catalog
from services.evaluator.comparer import Comparer
from services.evaluator.comparisons import Comparisons
from services.evaluator.importing import Imports
from services.evaluator.kind import EvaluationKind
from services.process.composition import Platform
from services.process.confinement import require_confinement
from services.process.server import ServiceParts, run
from services.tasks.api.scaler import Scaler
from services.tasks.api.service import TaskEngine, task_service
from services.tasks.api.servicer import Method

STAY = f"{{0}}.state = {TASK_STATE_SUCCEEDED}"
"""Evaluations with a result are the evidence of releases and the sides of comparisons, which name them."""


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: the task engine with evaluations, comparisons of them, and imports."""
    await require_confinement(platform.settings)
    made: list[Comparisons] = []

    def comparisons(engine: TaskEngine) -> Mapping[str, Method]:
        made.append(Comparisons(platform, Comparer(platform.cas), engine.handlers))
        return {**made[0].methods, "ImportEvaluation": Imports(platform, engine.handlers).import_evaluation}

    kind = EvaluationKind(platform.channel("registry"), platform.cas)
    scaler = Scaler("evaluator", load_catalog().devices)
    parts = await task_service(platform, kind, scaler, comparisons, stay=STAY)
    return replace(parts, background=[*parts.background, made[0].operations.runner.run]).beside(scaler.parts)


if __name__ == "__main__":
    run("evaluator", build)
