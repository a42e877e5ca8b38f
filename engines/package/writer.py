"""Writes a package: model files, manifest, report, a stand-alone `infer.py` and a README.

The same inputs give the same bytes in every file but the reports, which hold what was measured in time.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.failures import invalid
from engines.package.manifest import (
    FILE_NAME,
    ComponentEntry,
    Interface,
    Lineage,
    Manifest,
    QuantizationEntry,
    Requirements,
    RuntimeEntry,
    Tensor,
    read_manifest,
)
from engines.package.readme import readme
from engines.parity.report import ParityReport
from engines.runtimes import BuiltForm, Runtime
from engines.runtimes.serving import serving
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest
from engines.spec.template import Component
from engines.spec.toolchain import version_of
from engines.tensors.samples import SampleRange
from engines.tensors.signature import Signature, TensorSpec
from engines.timing.paired import ProfileReport

REPORT_NAME = "report.json"
TEMPLATE_NAME = "template.json"
"""The specification that the package was made with: a quantization reads the source again as it says."""


@dataclass(frozen=True)
class PackagedComponent:
    """What the package tells of one component.

    Attributes:
        component: The component as it was specified.
        form: What was built, in the package.
        signature: Its interface.
        ranges: Values that random inputs take, by input.
        parity: Parity with the source.
        profile: What was measured.
        companions: Files that travel with the component, by their path in the package: `tokenizer/vocab.txt`.
        warnings: What a user should know: defaults that were taken because nobody said otherwise.
    """

    component: Component
    form: BuiltForm
    signature: Signature
    ranges: Mapping[str, SampleRange]
    parity: ParityReport
    profile: ProfileReport
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def files(self) -> list[str]:
        """Paths of the component's files in the package."""
        return [f"{self.component.name}/{name}" for name in self.form.files]


@dataclass(frozen=True)
class PackageContent:
    """What a package is made of, beside the components' model files.

    Attributes:
        request: The conversion; of a quantization, the one that reads its source.
        runtime: What built the components; a component that another built says so itself.
        components: The components.
        template: JSON form of the full specification, as the work named it.
        quantization: How the components were quantized, where they were.
        details: More for `report.json`: what was measured while the package was made.
    """

    request: ConversionRequest
    runtime: Runtime
    components: Sequence[PackagedComponent]
    template: Mapping[str, Any]
    quantization: QuantizationEntry | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def write_package(directory: Path, content: PackageContent) -> list[str]:
    """Write everything beside the components' model files, which lie in the package already.

    Returns:
        Paths of all files of the package, sorted.
    """
    for entry in content.components:
        _copy_companions(directory, entry)
    manifest = _manifest(content)
    _write(directory / FILE_NAME, manifest.to_json())
    profiles = {entry.component.name: entry.profile.to_dict() for entry in content.components}
    _write(directory / REPORT_NAME, _json({**profiles, **content.details}))
    _write(directory / TEMPLATE_NAME, json.dumps(content.template, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    write_scripts(directory, (entry.form.runtime for entry in content.components))
    _write(directory / "README.md", readme(manifest))
    read_manifest(directory)
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _copy_companions(directory: Path, entry: PackagedComponent) -> None:
    for name, original in entry.companions.items():
        target = directory / name
        if not target.resolve().is_relative_to(directory.resolve()):
            raise invalid(f"The file '{name}' beside component '{entry.component.name}' leads out of the package.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, target)


def write_scripts(directory: Path, runtimes: Iterable[str]) -> None:
    """Write `infer.py`, which runs the package alone, and what it imports: copies of files of this library.

    Args:
        directory: The package.
        runtimes: Names of the runtimes of its components, whose openers it needs.
    """
    engines = importlib.resources.files("engines")
    openers = dict.fromkeys(name for runtime in runtimes for name in serving(runtime).carried)
    copies = {name: f"package/payload/{name}" for name in ("infer.py", "arrays.py")}
    copies |= {f"runtimes/{name}": f"runtimes/{name}" for name in ("opened.py", *openers)}
    modules = (module.name for module in engines.joinpath("postprocess").iterdir())
    copies |= {f"postprocess/{name}": f"postprocess/{name}" for name in modules if name.endswith(".py")}
    for name, original in copies.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        _write(directory / name, engines.joinpath(original).read_text(encoding="utf-8"))


def template_digest(request: ConversionRequest) -> str:
    """Return the sha256 of the full specification, in a canonical form."""
    values = request.template.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _manifest(content: PackageContent) -> Manifest:
    request, runtime, components = content.request, content.runtime, content.components
    template, precision = request.template, components[0].form.precision
    needed = dict.fromkeys(name for entry in components for name in serving(entry.form.runtime).packages)
    versions = {name: version_of(name) for name in ("numpy", *needed)}
    flags = dict.fromkeys(flag for entry in components for flag in _flags(template.device, entry.form))
    return Manifest(
        repo=template.repo,
        version=template.version,
        device=template.device,
        runtime=_runtime(runtime.name),
        precision=precision,
        method=template.method or "raw",
        args={name: _typed(value) for name, value in template.args.items()},
        taxonomies=template.taxonomies,
        components=tuple(_component(entry, runtime.name, precision) for entry in components),
        lineage=Lineage(
            source_format=template.source_format,
            source_digest=request.source_digest,
            template=template.name,
            template_digest=template_digest(request),
            architectures={name: entry.digest for name, entry in sorted(request.architectures.items())},
        ),
        requirements=Requirements(
            architecture=platform.machine(),
            packages=versions,
            cpu_flags_any=tuple(flags),
        ),
        report=REPORT_NAME,
        quantization=content.quantization,
    )


def _runtime(name: str) -> RuntimeEntry:
    return RuntimeEntry(name=name, version=version_of(serving(name).packages[0]))


def _flags(device: str, form: BuiltForm) -> tuple[str, ...]:
    runtime = load_catalog().device(device).runtime(form.runtime)
    return next((value for name, value in runtime.precision_flags.items() if name == form.precision), ())


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    """Return an argument as `{"vi": [1, 2]}`: protobuf writes integers as strings, a package does not."""
    kind, content = next(iter(value.items()))
    values = content.get("values", []) if kind.startswith("v") else [content]
    plain = [int(item) if kind.endswith("i") else float(item) if kind.endswith("f") else item for item in values]
    return {kind: plain if kind.startswith("v") else plain[0]}


def _component(entry: PackagedComponent, runtime: str, precision: str) -> ComponentEntry:
    component, form = entry.component, entry.form
    own = (form.runtime, form.precision) != (runtime, precision)
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
        preprocessing={given.name: given.preprocessing for given in component.inputs if given.preprocessing.active},
        parity=entry.parity.to_dict(),
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


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
