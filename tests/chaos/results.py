"""Whether what each task made is what its kind makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.measurement_pb2 import VERDICT_PASS

SAMPLES = 12
"""Of the dataset that evaluations read, all of which the network of the load classifies rightly."""
BY_AN_ENGINE = "sbom.cdx.json"
"""A file of every package that is no stand-in's."""
_IN_EVERY_PACKAGE = {"manifest.json", "provenance.intoto.jsonl"}
_OF_OPTIMIZATIONS = {"manifest.json", "main/model.onnx", "template.json", "infer.py", "optimization.html"}


def wrong_results(found: Mapping[str, list[Any]], versions: Mapping[str, ModelVersion]) -> Iterator[str]:
    """Yield a sentence for each task whose result is not right.

    Args:
        found: Kind → the tasks that have succeeded.
        versions: All versions of the model, by name.
    """
    for kind, check in _CHECKS.items():
        for task in found.get(kind, ()):
            for wrong in check(task.result, versions):
                yield f"{task.name}: {wrong}"


def _package(result: Any, versions: Mapping[str, ModelVersion]) -> Iterator[str]:
    version = versions.get(result.model_version)
    if version is None:
        yield f"its version {result.model_version} is not there"
        return
    files = {file.path: file.digest.sha256 for file in version.files}
    if missing := _IN_EVERY_PACKAGE - files.keys():
        yield f"its package lacks {', '.join(sorted(missing))}"
    if not any(path.endswith(".onnx") for path in files):
        yield f"its package has no model: {', '.join(files)}"
    if files.get("manifest.json") != result.manifest.sha256:
        yield "its manifest is not that of its version"
    verdicts = [report.verdict for report in version.parity.values()]
    if any(each != VERDICT_PASS for each in verdicts) or (BY_AN_ENGINE in files and not verdicts):
        yield f"its package did not pass the comparison with the source: {verdicts}"


def _optimization(result: Any, _: Mapping[str, ModelVersion]) -> Iterator[str]:
    if missing := _OF_OPTIMIZATIONS - {file.path for file in result.files}:
        yield f"its package lacks {', '.join(sorted(missing))}"
    if [each.recommended for each in result.candidates] != [True]:
        yield f"it recommends none of its {len(result.candidates)} candidates"


def _evaluation(result: Any, _: Mapping[str, ModelVersion]) -> Iterator[str]:
    values = {metric.name: metric.value for metric in result.metrics}
    if (result.samples, values.get(result.main_metric)) != (SAMPLES, 1.0):
        yield f"{result.main_metric} is {values.get(result.main_metric)} of {result.samples} samples"


_CHECKS: Mapping[str, Callable[[Any, Mapping[str, ModelVersion]], Iterator[str]]] = {
    "conversion": _package,
    "quantization": _package,
    "optimization": _optimization,
    "evaluation": _evaluation,
}
