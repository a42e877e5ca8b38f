"""Compares evaluations in a sandbox: their predictions may be large, and reports are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationComparison, EvaluationTask
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Child, Limits, Progress
from services.operations.runner import Standing
from services.platform import failures
from services.platform.errors import LatheError, failed_precondition
from services.platform.failures import ChildWork
from services.platform.words import from_values
from services.platform.work_folders import temporary_folder
from services.storage import ContentStore

ENTRY = "engines.api.comparison:run"
LIMITS = Limits(memory_bytes=2 << 30, timeout_seconds=1800)
# Children that may compare at the same time, so that a long one does not keep the short ones waiting: each may take the
# whole memory limit.
SLOTS = 3
_COMPARING = ChildWork(
    "Comparing the evaluations",
    LIMITS,
    too_large="COMPARISON_TOO_LARGE",
    smaller="Compare fewer evaluations at once, or evaluate on fewer samples.",
    role="evaluator",
)
_NOT_COMPARABLE = {FailureReason.INVALID_DATA, FailureReason.INVALID_SPEC, FailureReason.OUTPUT_MISMATCH}


class Comparer:
    """Compares, each time in a sandboxed process."""

    def __init__(self, store: ContentStore, folder: Path) -> None:
        """Work in folders inside `folder`."""
        self._store = store
        self._folder = folder

    async def compare(self, tasks: Sequence[EvaluationTask], standing: Standing) -> EvaluationComparison:
        """Return the comparison of evaluations on the same data, the reference first. Its reports are stored.

        Raises:
            LatheError: FAILED_PRECONDITION, reason NOT_COMPARABLE, if their predictions are not of the same data;
                COMPARISON_TOO_LARGE if comparing takes too much memory or time; NOT_FOUND for a report that is gone.
        """
        async with temporary_folder(self._folder) as workdir:
            evaluations = [await self._fetch(workdir, place, task) for place, task in enumerate(tasks)]
            found = await _run({"evaluations": evaluations, "seed": 0}, workdir, standing)
            comparison = from_values(found, EvaluationComparison(), ignore_unknown_fields=True)
            comparison.html_report.CopyFrom(await self._store.put_file(workdir / "out" / "comparison.html"))
            comparison.json_report.CopyFrom(await self._store.put_file(workdir / "out" / "comparison.json"))
        return comparison

    async def _fetch(self, workdir: Path, place: int, task: EvaluationTask) -> dict[str, str]:
        paths = {"predictions": f"{place}/predictions.parquet", "report": f"{place}/report.json"}
        await self._store.fetch(task.result.predictions, workdir / paths["predictions"])
        await self._store.fetch(task.result.json_report, workdir / paths["report"])
        return {"name": task.name, **paths}


async def _run(request: dict[str, Any], workdir: Path, standing: Standing) -> dict[str, Any]:
    def compared(progress: Progress) -> None:
        standing.at(TASK_STAGE_EXECUTING, progress.fraction)

    try:
        async with await Child.spawn(workdir) as child:
            return await child.run(ENTRY, request, LIMITS, compared)
    except EngineFailure as failure:
        raise refusal(failure) from failure


def refusal(failure: EngineFailure) -> LatheError | EngineFailure:
    """Return the error that a caller gets for a failure to compare, or the failure itself if it is ours."""
    return failures.refusal(failure, _COMPARING, _fault)


def _fault(reason: FailureReason, words: str) -> LatheError | None:
    return failed_precondition("NOT_COMPARABLE", words) if reason in _NOT_COMPARABLE else None
