"""The content of a package, and its manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.package.manifest import (
    ComponentEntry,
    Interface,
    Lineage,
    Manifest,
    QuantizationEntry,
    Requirements,
    RuntimeEntry,
    Tensor,
)
from engines.parity.report import ParityReport
from engines.runtimes import BuiltForm, Where, runtime, runtimes
from engines.runtimes.serving import serving
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest
from engines.spec.template import Component
from engines.spec.toolchain import version_of
from engines.tensors.inputs import active_steps
from engines.tensors.samples import SampleRange
from engines.tensors.signature import Signature, TensorSpec
from engines.timing.paired import ProfileReport

REPORT_NAME = "report.json"


@dataclass(frozen=True)
class PackagedComponent:
    """One component of a package.

    Attributes:
        component: The component as it was specified.
        form: The built form; its files are in the package.
        signature: Its interface.
        ranges: Values that random inputs take, by input.
        parity: Parity with the source.
        profile: Measured latencies; None if the form does not run on its device here, so that no time means anything.
        companions: Files that travel with the component, by their path in the package: `tokenizer/vocab.txt`.
        warnings: Notes for users, such as defaults that were assumed.
    """

    component: Component
    form: BuiltForm
    signature: Signature
    ranges: Mapping[str, SampleRange]
    parity: ParityReport
    profile: ProfileReport | None
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def files(self) -> list[str]:
        """Paths of the component's files in the package."""
        return [f"{self.component.name}/{name}" for name in self.form.files]

    @property
    def parity_report(self) -> dict[str, Any]:
        """The JSON form of the parity report, with what the form ran on, and the device if that was it."""
        room, device = runtime(self.form.runtime), load_catalog().device(self.form.device)
        on_device = room.where(device) is Where.HERE
        return self.parity.to_dict() | {
            "device": self.form.device if on_device else "",
            "verified_on": room.runs_on(device),
        }


@dataclass(frozen=True)
class PackageContent:
    """Everything that a package is written from, except the components' model files.

    Attributes:
        request: The conversion; for a quantization, the one that reads its source.
        components: The components.
        template: JSON form of the full specification, as the task gave it.
        quantization: How the components were quantized; None if they were not.
        details: More entries for `report.json`: measurements made while the package was built.
    """

    request: ConversionRequest
    components: Sequence[PackagedComponent]
    template: Mapping[str, Any]
    quantization: QuantizationEntry | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def make_manifest(content: PackageContent) -> Manifest:
    """Return the manifest of a package."""
    request, components = content.request, content.components
    template, first = request.template, components[0].form
    device = load_catalog().device(template.device)
    needed = dict.fromkeys(name for entry in components for name in serving(entry.form.runtime).packages)
    versions = {name: version_of(name) for name in ("numpy", *needed)}
    flags = dict.fromkeys(flag for entry in components for flag in _flags(template.device, entry.form))
    return Manifest(
        repo=template.repo,
        version=template.version,
        device=template.device,
        runtime=_runtime(first.runtime),
        precision=first.precision,
        method=template.method or "raw",
        args={name: _typed(value) for name, value in template.args.items()},
        taxonomies=template.taxonomies,
        components=tuple(_component(entry, first) for entry in components),
        lineage=Lineage(
            source_format=template.source_format,
            source_digest=request.source_digest,
            template=template.name,
            template_digest=template_digest(request),
            architectures={name: entry.digest for name, entry in sorted(request.architectures.items())},
        ),
        requirements=Requirements(
            architecture=platform.machine() if device.is_accelerator else device.architecture,
            packages=versions,
            cpu_flags_any=tuple(flags),
        ),
        report=REPORT_NAME,
        quantization=content.quantization,
    )


def _runtime(name: str) -> RuntimeEntry:
    return RuntimeEntry(name=name, version=runtimes()[name].version())


def _flags(device: str, form: BuiltForm) -> tuple[str, ...]:
    runtime = load_catalog().device(device).runtime(form.runtime)
    return next((value for name, value in runtime.precision_flags.items() if name == form.precision), ())


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    """Return an argument as `{"vi": [1, 2]}`: protobuf writes integers as strings, the manifest as numbers."""
    kind, content = next(iter(value.items()))
    values = content.get("values", []) if kind.startswith("v") else [content]
    plain = [int(item) if kind.endswith("i") else float(item) if kind.endswith("f") else item for item in values]
    return {kind: plain if kind.startswith("v") else plain[0]}


def _component(entry: PackagedComponent, first: BuiltForm) -> ComponentEntry:
    component, form = entry.component, entry.form
    own = (form.runtime, form.precision) != (first.runtime, first.precision)
    return ComponentEntry(
        name=component.name,
        model_type=component.model_type,
        entry=entry.files[0],
        files=tuple(entry.files),
        options=entry.form.options,
        max_batch=component.largest_batch,
        num_classes=component.num_classes,
        signature=Interface(
            inputs=tuple(_tensor(spec, entry.ranges.get(spec.name)) for spec in entry.signature.inputs),
            outputs=tuple(_tensor(spec, None) for spec in entry.signature.outputs),
        ),
        preprocessing=active_steps(component.inputs),
        parity=entry.parity_report,
        runtime=_runtime(form.runtime) if own else None,
        precision=form.precision if own else None,
        warnings=tuple(entry.warnings) or None,
    )


def _tensor(spec: TensorSpec, values: SampleRange | None) -> Tensor:
    span = None
    if values is not None and (values.low, values.high) != (0.0, 0.0):
        span = (values.low, values.high)
    elif values is not None and values.pixels:
        span = (0.0, 255.0)
    value = values.values if values is not None and values.values else None
    return Tensor.model_validate({**spec.to_dict(), "range": span, "value": value})


def template_digest(request: ConversionRequest) -> str:
    """Return the sha256 of the full specification, in a canonical form."""
    values = request.template.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
