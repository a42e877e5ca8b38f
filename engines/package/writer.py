"""Writes a package: model files, manifest, report, a stand-alone `infer.py`, a README and a bill of materials.

The same inputs give the same bytes in every file except the reports, which hold measured times.
"""

from __future__ import annotations

import importlib.resources
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.failures import invalid
from engines.formats.preparation import Progress
from engines.package.content import REPORT_NAME, PackageContent, PackagedComponent, make_manifest
from engines.package.description import describe_package
from engines.package.manifest import (
    FILE_NAME,
    Manifest,
    Tensor,
    read_manifest,
)
from engines.package.sbom import FILE_NAME as SBOM_NAME
from engines.package.sbom import bill
from engines.parity.report import Verdict, tolerance_of
from engines.runtimes.serving import serving
from engines.sandbox import Reporter
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.shapes import format_extents

log = logging.getLogger(__name__)

PACKAGE_DIR = "package"
PACKAGING = 0.97
"""Progress when every component is done and the package is about to be written."""
TEMPLATE_NAME = "template.json"
"""The specification that the package was made with; a quantization reads the source by it again."""


def fresh_package(workdir: Path) -> Path:
    """Return an empty `workdir/package`; files of an earlier attempt, also in `workdir/scratch`, are removed."""
    package = workdir / PACKAGE_DIR
    for folder in (package, workdir / "scratch"):
        shutil.rmtree(folder, ignore_errors=True)
    package.mkdir(parents=True)
    return package


def share_of(report: Reporter, index: int, count: int) -> Progress:
    """Return a function that takes the progress of one of `count` components; each is an equal part of the work."""
    span = PACKAGING / count

    def progress(fraction: float, message: str) -> None:
        report.progress(span * (index + fraction), message)

    return progress


def finish_package(workdir: Path, content: PackageContent, report: Reporter) -> dict[str, Any]:
    """Write all files of a package except the models, which are in it already, and remove `workdir/scratch`.

    Returns:
        Fields of the outcome of any task: `files`, without digests; `description`, with their graphs; and
        `architecture_digests`.
    """
    package = workdir / PACKAGE_DIR
    files = write_package(package, content)
    shutil.rmtree(workdir / "scratch", ignore_errors=True)
    log.info("Package written: %d files, %d bytes", len(files), sum((package / name).stat().st_size for name in files))
    report.progress(1.0, "done")
    architectures = content.request.architectures.values()
    return {
        "files": [{"path": name} for name in files],
        "description": {"graphs": describe_package(package)},
        "architecture_digests": {entry.name: entry.digest for entry in architectures if entry.name},
    }


def write_package(directory: Path, content: PackageContent) -> list[str]:
    """Write all files of a package except the models, which are in it already.

    Returns:
        Paths of all files of the package, sorted.
    """
    for entry in content.components:
        _copy_companions(directory, entry)
    manifest = make_manifest(content)
    _write(directory / FILE_NAME, manifest.to_json())
    profiles = {entry.component.name: entry.profile.to_dict() for entry in content.components if entry.profile}
    _write(directory / REPORT_NAME, _json({**profiles, **content.details}))
    _write(directory / TEMPLATE_NAME, json.dumps(content.template, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    write_scripts(directory, (entry.form.runtime for entry in content.components))
    _write(directory / "README.md", readme(manifest))
    needs = manifest.requirements.packages
    _write(directory / SBOM_NAME, bill(manifest.repo or PACKAGE_DIR, manifest.version, needs))
    read_manifest(directory)
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _copy_companions(directory: Path, entry: PackagedComponent) -> None:
    for name, original in entry.companions.items():
        target = directory / name
        if not target.resolve().is_relative_to(directory.resolve()):
            raise invalid(f"The file '{name}' beside component '{entry.component.name}' is outside the package.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, target)


def write_scripts(directory: Path, runtimes: Iterable[str]) -> None:
    """Write `infer.py`, which runs the package without Lathe, and the modules that it imports, copied from here.

    Args:
        directory: The package.
        runtimes: Names of its components' runtimes, for their openers.
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


def readme(manifest: Manifest) -> str:
    """Return the README of a package, in Markdown."""
    needs, several = manifest.requirements, len(manifest.forms) > 1
    packages = " ".join(f"{name}=={version}" for name, version in needs.packages.items())
    flags = f" and one of the processor flags {', '.join(needs.cpu_flags_any)}" if needs.cpu_flags_any else ""
    lines = [
        f"# {manifest.repo or 'Package'} {manifest.version}".rstrip(),
        "",
        f"For `{manifest.device}`, computed in {' and '.join(map(str, manifest.forms))}. "
        f"Needs {needs.architecture}{flags}.",
        "",
        f"    pip install {packages}",
        "    python infer.py                                  # a smoke run on random values",
        "    python infer.py --input x.npy --output y.npz",
        "",
    ]
    for component in manifest.components:
        parity = component.parity
        lines += [f"## {component.name}", "", "| tensor | dtype | shape |", "|---|---|---|"]
        for kind, tensors in (("input", component.signature.inputs), ("output", component.signature.outputs)):
            lines += [f"| {kind} `{tensor.name}` | {tensor.dtype} | {_extents(tensor)} |" for tensor in tensors]
        lines += ["", _parity_words(parity)]
        lines += [line for words in component.warnings or () for line in ("", f"Note: {words}")]
        if several:
            lines += ["", f"Computed in {manifest.form_of(component)}."]
        if component.preprocessing:
            lines.append(
                f"Preprocessing is part of the form for: {', '.join(component.preprocessing)}. Feed raw values."
            )
            lines += [line for name, steps in component.preprocessing.items() for line in _nv12_words(name, steps)]
        lines.append("")
    lines += [
        f"`{FILE_NAME}` has all other details, `{manifest.report}` the measurements, "
        f"`{SBOM_NAME}` the software that it needs (CycloneDX).",
        "",
    ]
    return "\n".join(lines)


def _nv12_words(name: str, steps: Preprocessing) -> Iterator[str]:
    if (colors := steps.nv12) is not None:
        spread = "wide (0 to 255)" if colors.wide else "narrow (16 to 235)"
        yield ""
        yield (
            f"`{name}` takes NV12 images as bytes [N, height * 3/2, width]: rows of luma, then rows in which Cb and Cr "
            f"alternate. Colours are those of {colors.matrix}, the range is {spread}."
        )


def _parity_words(parity: Mapping[str, Any]) -> str:
    if parity["verdict"] == Verdict.UNVERIFIED:
        return f"**UNVERIFIED: nobody has seen this form compute.** Missing: {parity['missing']}."
    asked = tolerance_of(parity)
    figures = ", ".join(
        f"`{output['output']}` {float(output[asked.measure.lower()]):.5g}" for output in parity["outputs"]
    )
    where = f" on {parity['verified_on']}" if parity.get("verified_on") else ""
    return f"Parity with the source: {parity['verdict']}{where}. Required: {asked}; measured: {figures}."


def _extents(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "any"
    shape = format_extents(tensor.shape.min, tensor.shape.max, tensor.axis_names or ()).replace("*", " * ")
    batch = f", the batch is axis {tensor.batch_axis}" if (tensor.batch_axis or 0) > 0 else ""
    value = f", {tensor.value[0]:g} in a smoke run" if tensor.value and len(tensor.value) == 1 else ""
    return f"{shape}{batch}{value}"


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
