"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from engines.evaluation.report import EvaluationReport, WorstSample
from engines.reports import charts, metric_text, text
from engines.reports.evaluation_classification import classification_sections
from engines.reports.evaluation_detection import detection_section
from engines.reports.evaluation_figures import other_sections, slice_section
from engines.reports.page import Cell, Chart, Facts, Gallery, Notes, Page, Picture, Section, Table, Tile, render

_SHOWN_BOXES = 6


def evaluation_html(report: EvaluationReport) -> str:
    """Return the report as one self-contained HTML file; equal reports give equal text."""
    package = report.package
    return render(
        Page(
            kind="Evaluation",
            title=f"{package.repo} {package.version}".strip(),
            subtitle=f"{package.precision} in {package.runtime} {package.runtime_version} on {package.device}",
            verdict=_verdict(report),
            tiles=_tiles(report),
            sections=list(_sections(report)),
            small_print=_small_print(report),
        )
    )


def _main(report: EvaluationReport) -> metric_text.Figure | None:
    return metric_text.find([metric for metric in report.metrics if not metric.slice], report.main_metric)


def _verdict(report: EvaluationReport) -> str:
    main, samples = _main(report), text.count(report.samples, "sample")
    data = "the dataset" if report.spec.data == "dataset" else "uploaded images"
    if main is None:
        return (
            f"Ran on {samples} of {data}. Nothing was evaluated, because the data has no annotations for this method."
        )
    reached = f"{metric_text.title(main.name)} of {metric_text.value(main.name, main.value)} on {samples} of {data}."
    parts = sorted(
        (metric for metric in report.metrics if metric.slice and metric.name == main.name), key=lambda part: part.value
    )
    if parts and parts[0].high < main.low:
        reached += f" Clearly worse for {parts[0].slice}: {metric_text.value(main.name, parts[0].value)}."
    return reached


def _tiles(report: EvaluationReport) -> list[Tile]:
    times = report.times
    batch = f"batch of {times.batch_size}, {text.count(times.threads, 'thread')}"
    return [
        metric_text.tile(_main(report)),
        Tile("Latency, p50", text.milliseconds(times.latency_p50_ms), batch),
        Tile("Latency, p99", text.milliseconds(times.latency_p99_ms), f"of {text.count(times.calls, 'call')}"),
        Tile("Throughput", f"{text.number(times.throughput)} /s", "samples, all stages"),
        Tile("Package size", text.size(report.package.size_bytes), report.package.precision),
    ]


def _sections(report: EvaluationReport) -> Iterator[Section]:
    if report.warnings:
        yield Section("Warnings", [Notes(report.warnings, "warn")])
    yield from other_sections(report)
    yield from classification_sections(report)
    yield from detection_section(report)
    yield from slice_section(report)
    if report.worst:
        yield _worst(report)
    yield _speed(report)
    yield _setting(report)


def _worst(report: EvaluationReport) -> Section:
    note = ""
    if report.detection is not None:
        note = "The pictures show predicted boxes, and true boxes dashed."
    pictures = [_picture(sample) for sample in report.worst]
    return Section("Worst samples", [Gallery("The largest losses first", pictures, note)])


def _picture(sample: WorstSample) -> Picture:
    lines = [_answer(answer.truth, answer.predicted, answer.score, answer.correct) for answer in sample.answers]
    for what, names in (("predicted", sample.detections), ("true", sample.truths)):
        if names or sample.detections or sample.truths:
            more = f" and {len(names) - _SHOWN_BOXES} more" if len(names) > _SHOWN_BOXES else ""
            lines.append(Cell(f"{what}: {', '.join(names[:_SHOWN_BOXES]) or 'nothing'}{more}"))
    lines += [Cell(f"{name}: {value}", "muted") for name, value in sample.attributes.items()]
    lines.append(Cell(f"loss {text.number(sample.loss)}", "muted"))
    return Picture(sample.image_png, sample.path or f"sample {sample.number}", lines)


def _answer(truth: str, predicted: str, score: float, correct: bool | None) -> Cell:
    said = f"{predicted} ({text.percent(score, 0)})" if predicted else "no prediction"
    if correct is None:
        return Cell(said)
    return Cell(said, "good") if correct else Cell(f"{said}, not {truth}", "bad")


def _speed(report: EvaluationReport) -> Section:
    times = report.times
    marks = [(f"{name} {text.milliseconds(value)}", value) for name, value in (
        ("p50", times.latency_p50_ms), ("p90", times.latency_p90_ms), ("p99", times.latency_p99_ms))]  # fmt: skip
    histogram = times.latency_histogram
    label = f"Histogram of the latency of {times.calls} calls: " + ", ".join(name for name, _ in marks)
    chart = charts.histogram(
        "latency", label, histogram.edges, histogram.counts, "latency of one call, ms", marks=marks
    )
    stages = [
        ("preprocess", times.preprocess_ms),
        ("inference", times.inference_ms),
        ("postprocess", times.postprocess_ms),
    ]
    rest = max(0.0, times.total_ms - sum(spent for _, spent in stages))
    rows = [*stages, ("everything else", rest), ("total", times.total_ms)]
    shares = [[name, text.milliseconds(spent), text.percent(spent / times.total_ms if times.total_ms else None)]
              for name, spent in rows]  # fmt: skip
    note = (
        f"{times.calls:,} calls in {text.count(times.loops, 'loop')}, batch of {times.batch_size}, "
        f"{text.count(times.threads, 'thread')}. Peak memory {text.size(times.peak_memory_bytes)}."
    )
    table = Table("Time per sample", ["stage", "mean", "share"], shares, note=note)
    return Section("Speed", [Chart(chart, "Latency of the model"), table])


def _setting(report: EvaluationReport) -> Section:
    package, spec = report.package, report.spec
    asked = [
        ("method", spec.method),
        *((f"argument {name}", str(value)) for name, value in spec.args.items()),
        ("preprocessing", " → ".join(spec.preprocessing) or "to the model's input"),
        ("slices", ", ".join(spec.slices) or "none"),
        ("seed", str(spec.seed)),
    ]
    if spec.iou_thresholds and report.detection is not None:
        asked.insert(1, ("IoU thresholds", ", ".join(f"{value:g}" for value in spec.iou_thresholds)))
    run_by = [
        ("hardware", report.hardware or text.NONE),
        ("device", package.device),
        ("runtime", f"{package.runtime} {package.runtime_version}"),
        ("precision", package.precision),
        ("component", package.component or text.NONE),
        *((entry.name, entry.version) for entry in report.software),
    ]
    return Section("Software, hardware and settings", [Facts("Environment", run_by), Facts("Settings", asked)])


def _small_print(report: EvaluationReport) -> list[str]:
    lines = [
        f"Intervals are 95 % percentile bootstrap intervals over samples, with {report.spec.resamples} draws and the "
        f"seed {report.spec.seed}. They show how the figures vary between samples of the same kind of data, not for "
        "other data.",
        "Latency is of one call of the model with a whole batch, without preprocessing and postprocessing; "
        "throughput includes all stages. A single process was measured, so a difference between two evaluations can be "
        "due to the machine. Conversions and quantizations compare forms by paired measurements.",
    ]
    if report.detection is not None:
        lines.append(
            "AP is defined as in COCO: precision interpolated at 101 recalls, averaged over classes and thresholds of "
            "intersection over union. Small boxes have less than 32² pixels of the original image, large ones at least "
            "96²."
        )
    if report.classification:
        lines.append("Precision is 0 if nothing was predicted as a class, recall is 0 if no sample has it.")
    return lines
