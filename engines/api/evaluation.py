"""Evaluation: a package and data in, figures with intervals out. Workers run this entry in a sandboxed child.

open the package → bring each item to its input → run → postprocess → evaluate → figures by slice → report
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.datasets.items import Item
from engines.datasets.selection import Selection, unpack_selection
from engines.evaluation.bootstrap import RESAMPLES, generator
from engines.evaluation.feeder import Feeder, steps_of
from engines.evaluation.groups import groups
from engines.evaluation.passes import Findings, Passes, refuse_empty
from engines.evaluation.predictions import FILE_NAME, PredictionsHeader
from engines.evaluation.predictor import MAIN_METRICS, Predictor
from engines.evaluation.report import EvaluationReport, MetricValue, PackageInfo, SliceInfo, Software, SpecInfo
from engines.evaluation.request import EvaluationRequest, Spec
from engines.evaluation.times import to_message
from engines.package.opening import OpenedComponent, open_component
from engines.runtimes.serving import serving
from engines.sandbox import Reporter
from engines.sandbox.tasklog import log_to_stdout
from engines.spec.toolchain import hardware, software

log = logging.getLogger(__name__)

REPORT_DIR = "report"
MOST_METRICS = 5000
"""Most figures in the result, which must fit into a message; the report has all."""

_SOFTWARE = ("lathe", "numpy", "pillow", "pycocotools")
_RUNNING, _JUDGING, _WRITING = 0.05, 0.85, 0.95


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Run an evaluation, and write the reports to `workdir/report`.

    Args:
        request: The JSON form of `lathe.internal.v1.EvaluationWork`. The package is in `workdir/package`, a dataset's
            items in `workdir/dataset`, uploaded images in `workdir/images.bin`.
        workdir: Directory to work in.
        report: Receives the progress.

    Returns:
        The JSON form of `lathe.internal.v1.EvaluationOutcome`, with files without digests.

    Raises:
        EngineFailure: With the reason of the failure.
    """
    log_to_stdout()
    report.progress(0.0, "opening the package")
    work = EvaluationRequest.parse(request)
    threads = len(os.sched_getaffinity(0))
    with open_component(workdir / "package", None, threads) as package:
        return _evaluated(work, package, workdir, report, threads)


def _evaluated(
    work: EvaluationRequest, package: OpenedComponent, workdir: Path, report: Reporter, threads: int
) -> dict[str, Any]:
    method, args = work.method(package.manifest, package.form.precision)
    log.info("Opened '%s' in %s for the method %s", package.component.name, package.form.runtime.name, method)
    selection = _selection(work, workdir)
    feeder = _feeder(selection, package, work.spec)
    items = [selection.items[number] for number in feeder.numbers]
    parts, warnings = groups(items, work.spec.slices)

    def progress(done: float) -> None:
        report.progress(_RUNNING + (_JUDGING - _RUNNING) * done, f"running {len(items)} samples")

    predictor = Predictor(method, args, package.taxonomies())
    folder = workdir / REPORT_DIR
    folder.mkdir(parents=True, exist_ok=True)
    findings = _findings(Passes(feeder, package.run, predictor, progress), predictor, items, work.spec, folder)
    log.info("Ran %d samples in %d calls", len(items), len(findings.clock.calls))

    report.progress(_JUDGING, "computing figures and their intervals")
    collector = findings.collector
    ignored = bool(work.spec.preprocessing) and selection.is_tensors
    metrics = collector.metrics(parts, RESAMPLES, work.spec.seed)
    packages = (*_SOFTWARE, *serving(package.form.runtime.name).packages)
    whole = EvaluationReport(
        package=_package_info(package),
        spec=_spec_info(work, method, args, feeder),
        samples=len(items),
        main_metric=collector.main_metric,
        metrics=tuple(metrics),
        slices=tuple(SliceInfo(name=part.name, samples=len(part.members)) for part in parts[1:]),
        times=findings.clock.times(work.spec.batch, work.spec.passes, threads),
        worst=findings.worst.report(selection, collector.classes),
        warnings=(
            *selection.warnings,
            *_warnings(package, findings, warnings, len(items), ignored_steps=ignored),
        ),
        software=tuple(Software(**entry) for entry in software(packages)),
        hardware=hardware(),
        **collector.parts(),
    )
    report.progress(_WRITING, "writing the report")
    outcome = _outcome(whole, folder)
    report.progress(1.0, "done")
    return outcome


def _findings(passes: Passes, predictor: Predictor, items: list[Item], spec: Spec, folder: Path) -> Findings:
    collector = predictor.collector(items, passes.first(), spec.class_tasks, spec.iou_thresholds, spec.seed)
    header = PredictionsHeader(
        method=predictor.method,
        classes=dict(collector.classes),
        iou_thresholds=spec.iou_thresholds,
        slices=spec.slices,
        main_metric=MAIN_METRICS.get(predictor.method, ""),
    )
    findings = Findings(collector)
    passes.run(findings, spec.passes, folder / FILE_NAME, header)
    return findings


def _selection(work: EvaluationRequest, workdir: Path) -> Selection:
    if work.dataset is not None:
        return Selection(workdir / "dataset")
    return unpack_selection(workdir / "images.bin", workdir / "images")


def _feeder(selection: Selection, package: OpenedComponent, spec: Spec) -> Feeder:
    component = package.component_dict()
    steps = steps_of(spec.preprocessing, component) if spec.preprocessing else None
    count = len(selection.items)
    numbers: Sequence[int] = range(count)
    if spec.samples and spec.samples < count:
        numbers = sorted(generator(spec.seed, "samples").permutation(count)[: spec.samples].tolist())
    refuse_empty(numbers)
    return Feeder(selection, component, steps, spec.batch, numbers)


def _warnings(
    package: OpenedComponent, findings: Findings, before: list[str], samples: int, *, ignored_steps: bool
) -> list[str]:
    found = [*before, *findings.collector.warnings()]
    others = [entry.name for entry in package.manifest.components if entry.name != package.component.name]
    if others:
        names = ", ".join(others)
        found.insert(0, f"Only the component '{package.component.name}' was evaluated. The package also has {names}.")
    if ignored_steps:
        found.append("The requested preprocessing steps were not used, because the data is tensors.")
    if findings.not_finite:
        found.append(
            f"{findings.not_finite} of {samples} samples have outputs that are not finite, which predict nothing."
        )
    if not findings.collector.main_metric and findings.collector.classes:
        found.append("Nothing could be evaluated, because no item is annotated with a class of the model.")
    return found


def _package_info(package: OpenedComponent) -> PackageInfo:
    manifest = package.manifest
    return PackageInfo(
        repo=manifest.repo,
        version=manifest.version,
        device=manifest.device,
        runtime=package.form.runtime.name,
        runtime_version=package.form.runtime.version,
        precision=package.form.precision,
        component=package.component.name,
        size_bytes=package.size_bytes,
    )


def _spec_info(work: EvaluationRequest, method: str, args: dict[str, Any], feeder: Feeder) -> SpecInfo:
    spec = work.spec
    return SpecInfo(
        method=method,
        args=args,
        data="images" if work.dataset is None else "dataset",
        iou_thresholds=spec.iou_thresholds,
        slices=spec.slices,
        class_tasks=spec.class_tasks,
        preprocessing=tuple(map(str, feeder.steps.steps)) if feeder.steps else (),
        seed=spec.seed,
        resamples=RESAMPLES,
    )


def _outcome(whole: EvaluationReport, folder: Path) -> dict[str, Any]:
    from engines.reports.evaluation_page import evaluation_html

    (folder / "report.json").write_text(whole.to_json(), encoding="utf-8")
    (folder / "report.html").write_text(evaluation_html(whole), encoding="utf-8")
    chosen = most_telling(whole.metrics)
    warnings = list(whole.warnings)
    if len(chosen) < len(whole.metrics):
        warnings.append(f"{len(whole.metrics) - len(chosen)} figures of classes and slices are only in the report.")
    return {
        "files": [{"path": name} for name in ("report.json", "report.html", FILE_NAME)],
        "result": {
            "metrics": [entry.model_dump() for entry in chosen],
            "times": to_message(whole.times, whole.package.runtime),
            "samples": whole.samples,
            "software": [entry.model_dump() for entry in whole.software],
            "hardware": whole.hardware,
            "warnings": warnings,
            "main_metric": whole.main_metric,
        },
    }


def most_telling(metrics: Sequence[MetricValue]) -> list[MetricValue]:
    """Return at most `MOST_METRICS` in their order, preferably those over all data and all classes."""
    order = sorted(range(len(metrics)), key=lambda number: _detail(metrics[number]))
    return [metrics[number] for number in sorted(order[:MOST_METRICS])]


def _detail(entry: MetricValue) -> tuple[bool, bool]:
    return entry.name.startswith(("precision/", "recall/", "f1/", "ap/")), bool(entry.slice)
