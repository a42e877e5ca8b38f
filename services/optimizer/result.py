"""What becomes of a finished search: the result of the task. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from lathe.optimizer.v1.optimization_service_pb2 import OptimizationOutcome, OptimizationResult

from services.siblings.packages import manifest_of

HTML_REPORT = "optimization.html"


def result_of(outcome: OptimizationOutcome, writers: Mapping[str, str]) -> OptimizationResult:
    """Return the result of a task; nothing is registered yet.

    Args:
        outcome: What the worker made.
        writers: The tasks that wrote earlier records, by the sha256 of the record: candidates that were not measured
            again name their record.
    """
    result = OptimizationResult()
    result.CopyFrom(outcome.result)
    del result.files[:]
    result.files.extend(outcome.files)
    result.manifest.CopyFrom(manifest_of(outcome.files))
    for file in outcome.files:
        if file.path == HTML_REPORT:
            result.html_report.CopyFrom(file.digest)
    for candidate in result.candidates:
        if candidate.measured_by:
            candidate.measured_by = writers.get(candidate.measured_by, "")
    return unsaved(result)


def unsaved(result: OptimizationResult) -> OptimizationResult:
    """Return a result as it is before its model is saved: each task saves for itself."""
    made = OptimizationResult()
    made.CopyFrom(result)
    made.model_version = made.saved_location = ""
    return made
