"""What becomes of a finished quantization: the result of the task."""

from __future__ import annotations

from lathe.quantizer.v1.quantization_service_pb2 import QuantizationOutcome, QuantizationResult

from services.siblings.packages import manifest_of

HTML_REPORT = "quantization.html"


def result_of(outcome: QuantizationOutcome, name: str) -> QuantizationResult:
    """Return the result of a task whose package is the version `name`."""
    result = QuantizationResult()
    result.CopyFrom(outcome.result)
    result.model_version = name
    result.manifest.CopyFrom(manifest_of(outcome.files))
    for file in outcome.files:
        if file.path == HTML_REPORT:
            result.html_report.CopyFrom(file.digest)
    return result
