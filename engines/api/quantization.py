"""Quantization: a trained model in, a package of known accuracy out. The entry that workers run in the sandboxed child.

read → floating-point form → search among the ways to quantize for the runtime that will serve     for each component
then manifest, reports, infer.py and README                                                        for the package
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.datasets.selection import Selection
from engines.failures import EngineFailure, FailureReason
from engines.formats.reading import check_sources, with_components
from engines.package.content import PackageContent
from engines.package.manifest import QuantizationEntry, QuantizedComponent
from engines.package.writer import PACKAGING, finish_package, fresh_package, share_of
from engines.quantization.component import QuantizationJob, quantize
from engines.quantization.data import open_calibration
from engines.quantization.request import QuantizationRequest
from engines.quantization.result import ComponentQuantization, result_fields
from engines.runtimes import runtime, runtime_packages
from engines.sandbox import Reporter
from engines.sandbox.tasklog import log_to_stdout
from engines.search.journal import LASTING, Journal, deaths_of
from engines.spec.toolchain import available_threads, hardware, software

log = logging.getLogger(__name__)

HTML_NAME = "quantization.html"
_SOFTWARE = ("lathe", "nncf", "numpy", "onnx", "onnxscript")


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Quantize what a request asks for, and write the package to `workdir/package`.

    Args:
        request: The JSON form of `lathe.internal.v1.QuantizationWork`. The conversion's inputs are at the paths
            that it names; calibration items in `calibration/` or an upload at `calibration.bin`; evaluation items in
            `evaluation/`.
        workdir: Directory to work in.
        report: Takes progress.

    Returns:
        The JSON form of `lathe.internal.v1.QuantizationOutcome`, its files without digests.

    Raises:
        EngineFailure: with the reason that names what went wrong.
    """
    log_to_stdout()
    report.progress(0.0, "reading the specification")
    work = QuantizationRequest.parse(request)
    check_sources(work.conversion)
    work = work.model_copy(update={"conversion": with_components(work.conversion, workdir)})
    template, spec = work.conversion.template, work.spec
    chosen = runtime(template.runtime)
    package = fresh_package(workdir)
    threads = available_threads()
    log.info(
        "Quantizing %s for %s in %s: %s %s by %s, %d threads on %s",
        *(template.source_format, template.device, chosen.name, spec.kind, spec.arithmetic, spec.method),
        *(threads, hardware()),
    )
    calibration, deaths = _calibration(work, workdir), deaths_of(request)
    if not deaths:
        shutil.rmtree(workdir / LASTING, ignore_errors=True)
    done: list[ComponentQuantization] = []
    for index, component in enumerate(template.components):
        progress = share_of(report, index, len(template.components))
        journal = Journal.of_component(component.name, workdir, report.risk, deaths)
        done.append(
            quantize(
                QuantizationJob(work, component, chosen, calibration, workdir, package, progress, threads, journal)
            )
        )
    report.progress(PACKAGING, "writing the package")
    tools = software((*_SOFTWARE, *runtime_packages()))
    result = {**result_fields(work, done), "software": tools, "hardware": hardware()}
    _write_html(package / HTML_NAME, work, result)
    content = PackageContent(
        work.conversion,
        [entry.packaged for entry in done],
        request["conversion"]["template"],
        _manifest_entry(work, done),
        {"quantization": result},
    )
    shutil.rmtree(workdir / LASTING, ignore_errors=True)
    return {**finish_package(workdir, content, report), "result": result}


def _calibration(work: QuantizationRequest, workdir: Path) -> Selection | None:
    found = open_calibration(workdir, is_dataset=work.calibration is not None)
    if found is None and work.spec.kind == "STATIC":
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            "Static quantization needs calibration data, from which the ranges of activations are found.",
            suggested_fix="Name a dataset or an upload in calibration_data; or choose DYNAMIC or WEIGHT_ONLY.",
        )
    return found


def _manifest_entry(work: QuantizationRequest, done: Sequence[ComponentQuantization]) -> QuantizationEntry:
    spec = work.spec
    return QuantizationEntry(
        scheme=spec.kind,
        method=spec.method if spec.kind == "STATIC" else "",
        granularity="PER_CHANNEL" if spec.per_channel else "PER_TENSOR",
        asymmetric=spec.asymmetric,
        components={
            entry.packaged.component.name: QuantizedComponent(
                quantizer=entry.chosen.spec.quantizer,
                floating_point_nodes=tuple(sorted(entry.excluded | set(entry.chosen.spec.kept))),
            )
            for entry in done
        },
    )


def _write_html(path: Path, work: QuantizationRequest, result: dict[str, Any]) -> None:
    from engines.reports.quantization_page import quantization_html

    template, spec = work.conversion.template, work.spec
    html = quantization_html(
        result,
        title=template.repo or "Quantized model",
        subtitle=f"{spec.arithmetic}, {spec.kind.lower().replace('_', ' ')}, {template.runtime} on {template.device}",
        max_degradation=spec.accuracy.max_degradation if spec.accuracy else None,
    )
    path.write_text(html, encoding="utf-8", newline="\n")
