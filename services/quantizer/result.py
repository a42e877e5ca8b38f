"""What becomes of a finished quantization: a version of the registry, and the result of the task."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import ParseDict
from lathe.quantizer.v1.quantization_service_pb2 import QuantizationOutcome, QuantizationResult, QuantizationTask
from lathe.registry.v1.model_service_pb2 import PACKAGE, Lineage, ModelVersion, PackageInfo

from services.common.packages import manifest_of, output_model

HTML_REPORT = "quantization.html"


def version_of(
    task: QuantizationTask, outcome: QuantizationOutcome, quantized: ModelVersion, manifest: bytes
) -> ModelVersion:
    """Return the version to register.

    Args:
        task: The task.
        outcome: What its worker made.
        quantized: The version that was quantized.
        manifest: Text of the package's manifest.
    """
    values: dict[str, Any] = json.loads(manifest)
    # The original comes last: a package that is quantized in turn is read from there.
    sources = dict.fromkeys([quantized.name, *quantized.lineage.sources[-1:]])
    template = task.spec.template or quantized.lineage.template
    version = ModelVersion(
        format=PACKAGE,
        files=outcome.files,
        description=(
            f"{quantized.name} in {values['precision']} for {values['device']} with {values['runtime']['name']}"
        ),
        # Device, runtime and precision are in the manifest, where the registry reads them.
        package=PackageInfo(
            repo=values["repo"],
            package_name=output_model(task.spec).removeprefix("models/"),
            method=values["method"],
            version=values["version"],
            template=template,
        ),
        lineage=Lineage(sources=sources, architectures=outcome.architecture_digests, template=template, task=task.name),
    )
    for component in values["components"]:
        ParseDict(component["parity"], version.parity[component["name"]], ignore_unknown_fields=True)
    return version


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
