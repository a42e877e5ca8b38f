"""Optimization: a trained model in, its fastest correct form out. The entry that workers run in the sandboxed child.

read → candidates, each made and run in a process of its own → parity → tournament → the one     for each component
then manifest, reports, infer.py, README and the record of all measurements                      for the package
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engines.formats.reading import Reader, check_sources, read_source, with_components
from engines.optimization.component import OptimizationJob, optimize_component
from engines.optimization.packaged_quantization import quantization_entry
from engines.optimization.request import OptimizationRequest
from engines.optimization.result import OptimizedComponent, result_fields
from engines.package.content import PackageContent
from engines.package.writer import PACKAGING, finish_package, fresh_package, share_of
from engines.sandbox import Reporter
from engines.sandbox.tasklog import log_to_stdout
from engines.search.journal import LASTING, Death, Journal, deaths_of
from engines.search.record import Record
from engines.spec.request import ConversionRequest
from engines.spec.source_files import TEST_DATA
from engines.spec.toolchain import available_threads, hardware

log = logging.getLogger(__name__)

HTML_NAME = "optimization.html"
RECORD_NAME = "record.json"
NO_DEATHS: Mapping[str, Death] = MappingProxyType({})


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Optimize what a request asks for, and write the package to `workdir/package`.

    Args:
        request: The JSON form of `lathe.internal.v1.OptimizationWork`. The conversion's inputs are at the paths that
            it names; test data at `samples/test.npz`; calibration items in `calibration/` or an upload at
            `calibration.bin`; evaluation items in `evaluation/`; the record of an earlier search at `record.json`.
        workdir: Directory to work in.
        report: Takes progress.

    Returns:
        The JSON form of `lathe.internal.v1.OptimizationOutcome`, its files without digests.

    Raises:
        EngineFailure: The source cannot be read or run, or the request is impossible; never for a single form.
    """
    log_to_stdout()
    report.progress(0.0, "reading the specification")
    work = OptimizationRequest.parse(request)
    if not work.conversion.samples_path and (workdir / TEST_DATA).is_file():
        work = work.model_copy(update={"conversion": work.conversion.model_copy(update={"samples_path": TEST_DATA})})
    check_sources(work.conversion)
    memory = work.spec.memory_limit_bytes or work.device.memory_limit_bytes
    return optimize_work(work, workdir, report, memory_bytes=memory, deaths=deaths_of(request))


def optimize_work(
    work: OptimizationRequest,
    workdir: Path,
    report: Reporter,
    *,
    memory_bytes: int = 0,
    reader: Reader = read_source,
    deaths: Mapping[str, Death] = NO_DEATHS,
) -> dict[str, Any]:
    """Optimize as `run` does, after the request was parsed.

    Args:
        work: The request.
        workdir: Directory to work in.
        report: Takes progress.
        memory_bytes: Most memory of the work; the machine's free memory if 0.
        reader: Reads each component; by its format if not given.
        deaths: The deaths of earlier processes of this work, which this process continues.
    """
    work = work.model_copy(update={"conversion": with_components(work.conversion, workdir)})
    template, spec = work.conversion.template, work.spec
    package = fresh_package(workdir)
    if not deaths:
        shutil.rmtree(workdir / LASTING, ignore_errors=True)
    threads, seconds = available_threads(), round(spec.budget_seconds / len(template.components), 1)
    log.info(
        "Optimizing %s for %s: %s allowed, for %s, %g s, %d threads on %s",
        *(template.source_format, template.device, spec.goal, spec.aim.lower(), spec.budget_seconds),
        *(threads, hardware()),
    )
    record = _record(workdir)
    done: list[OptimizedComponent] = []
    for index, component in enumerate(template.components):
        progress = share_of(report, index, len(template.components))
        journal = Journal.of_component(component.name, workdir, report.risk, deaths)
        done.append(
            optimize_component(
                OptimizationJob(
                    *(work, component, workdir, package, progress, threads, seconds, record),
                    *(memory_bytes, journal, reader),
                )
            )
        )
    report.progress(PACKAGING, "writing the package")
    result = result_fields(work, done)
    _write(package / HTML_NAME, _html(work, result))
    _write(package / RECORD_NAME, record.to_json() + "\n")
    shutil.rmtree(workdir / LASTING, ignore_errors=True)
    return {**finish_package(workdir, _content(work, done, result), report), "result": result}


def _record(workdir: Path) -> Record:
    path = workdir / RECORD_NAME
    return Record.from_json(path.read_text(encoding="utf-8")) if path.is_file() else Record()


def _content(work: OptimizationRequest, done: Sequence[OptimizedComponent], result: dict[str, Any]) -> PackageContent:
    form = done[0].packaged.form
    return PackageContent(
        _resolved(work.conversion, form.runtime, form.precision),
        [entry.packaged for entry in done],
        work.template,
        quantization_entry(done),
        {"optimization": result},
    )


def _resolved(conversion: ConversionRequest, serving: str, precision: str) -> ConversionRequest:
    """Return the request of a conversion that makes the same package."""
    template = conversion.template.model_copy(update={"runtime": serving, "precision": precision})
    return conversion.model_copy(update={"template": template})


def _html(work: OptimizationRequest, result: dict[str, Any]) -> str:
    from engines.reports.optimization_page import optimization_html

    template, spec = work.conversion.template, work.spec
    allowed = "lossless" if spec.goal == "FP32" else f"{spec.goal} allowed"
    return optimization_html(
        result,
        title=template.repo or "Optimized model",
        subtitle=f"{allowed}, best {spec.aim.lower()}, {template.device}, searched for {spec.budget_seconds:g} s",
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
