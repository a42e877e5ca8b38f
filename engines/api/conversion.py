"""Conversion of a trained model into a verified package: the entry that workers run in the sandboxed child.

read → prepare → build → verify against the source → measure      for each component
then manifest, report, infer.py and README                            for the package
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from engines.conversion.component import ComponentConversion, convert
from engines.formats.reading import check_sources, with_components
from engines.package.content import PackageContent, PackagedComponent
from engines.package.writer import PACKAGING, finish_package, fresh_package, share_of
from engines.runtimes import runtime, runtime_packages
from engines.sandbox import Reporter
from engines.sandbox.tasklog import log_to_stdout
from engines.spec.request import ConversionRequest
from engines.spec.toolchain import available_threads, hardware, software

log = logging.getLogger(__name__)

_SOFTWARE = ("lathe", "numpy", "onnx", "onnxscript")


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Convert a model and write the package to `workdir/package`.

    Args:
        request: The JSON form of `lathe.internal.v1.ConversionWork`; its inputs lie in `workdir`.
        workdir: Directory to work in.
        report: Receives progress.

    Returns:
        The JSON form of `lathe.internal.v1.ConversionOutcome`, its files without digests.

    Raises:
        EngineFailure: The failure of any step.
    """
    log_to_stdout()
    report.progress(0.0, "reading the specification")
    work = ConversionRequest.parse(request)
    check_sources(work)
    work = with_components(work, workdir)
    chosen = runtime(work.template.runtime)
    package = fresh_package(workdir)
    threads = available_threads()
    log.info(
        "Converting %s for %s: %s in %s, %d threads on %s",
        work.template.source_format,
        work.template.device,
        chosen.name,
        work.template.arithmetic,
        threads,
        hardware(),
    )
    done: list[PackagedComponent] = []
    for index, component in enumerate(work.template.components):
        progress = share_of(report, index, len(work.template.components))
        done.append(convert(ComponentConversion(work, component, chosen, workdir, package, progress, threads)))
    report.progress(PACKAGING, "writing the package")
    return {
        **finish_package(workdir, PackageContent(work, done, request["template"]), report),
        "components": [
            {
                "component": entry.component.name,
                "files": entry.files,
                "parity": entry.parity_report,
                **({"profile": entry.profile.to_dict()} if entry.profile else {}),
                "warnings": list(entry.warnings),
            }
            for entry in done
        ],
        "software": software((*_SOFTWARE, *runtime_packages())),
        "hardware": hardware(),
    }
