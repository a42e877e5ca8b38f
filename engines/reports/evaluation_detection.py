"""The section of the page of an evaluation about a detector: precision over recall, AP by class."""

from __future__ import annotations

from collections.abc import Iterator

from engines.evaluation.report import EvaluationReport
from engines.evaluation.report_figures import DetectionFigures
from engines.reports import charts, text
from engines.reports.charts import Bar, Curve
from engines.reports.page import Block, Chart, Section, Table

_MOST_ROWS = 200


def detection_section(report: EvaluationReport) -> Iterator[Section]:
    """Yield the section of a detector: precision over recall, AP by class, the figures of each class."""
    found = report.detection
    if found is None:
        return
    words = (
        f"{text.count(found.truths, 'true box', 'true boxes')} "
        f"({', '.join(f'{count:,} {name}' for name, count in found.areas.items())}), "
        f"{found.detections:,} predicted with any score."
    )
    yield Section("Detection", [*_curve_block(found), *_ap_bars(found), _detection_table(found)], words)


def _curve_block(found: DetectionFigures) -> list[Block]:
    if not found.curves:
        return []
    threshold = min({curve.iou for curve in found.curves}, key=lambda iou: (abs(iou - 0.5), iou))
    at = [curve for curve in found.curves if curve.iou == threshold]
    sizes = {entry.name: entry.truths for entry in found.classes}
    named = sorted((curve for curve in at if curve.name), key=lambda curve: (-sizes.get(curve.name, 0), curve.name))
    mean = [curve for curve in at if not curve.name]
    chosen = [*named[: charts.MOST_CURVES - len(mean)], *mean]
    lines = [
        Curve(f"{curve.name or 'all classes'}  {text.percent(curve.ap)}", curve.recall, curve.precision, not curve.name)
        for curve in chosen
    ]
    label = f"Precision over recall at IoU {threshold:g}: " + ", ".join(line.name for line in lines)
    chart = charts.curves("precision-recall", label, lines, "recall", "precision")
    rest = len(named) - (len(chosen) - len(mean))
    note = f"The classes with the most boxes; report.json has {rest} more." if rest else ""
    return [Chart(chart, f"Precision and recall at IoU {threshold:g}, with AP", note)]


def _ap_bars(found: DetectionFigures) -> list[Block]:
    known = [(entry.name, entry.ap50 if entry.ap is None else entry.ap, entry) for entry in found.classes]
    known = [entry for entry in known if entry[1] is not None]
    weakest = sorted(known, key=lambda entry: (entry[1] or 0, entry[0]))[: charts.MOST_BARS]
    if not known:
        return []
    shown = known if len(known) <= charts.MOST_BARS else weakest
    bars = [
        Bar(
            name,
            value or 0,
            f"{name}: AP {text.percent(value)}, AP50 {text.percent(entry.ap50)}, {entry.truths:,} boxes",
        )
        for name, value, entry in shown
    ]
    label = f"AP of {len(bars)} classes, from {text.percent(min(bar.value for bar in bars))}"
    chart = charts.bars("classes", label, bars, "AP", text.percent, limit=1, tick=lambda value: text.percent(value, 0))
    note = f"The weakest {len(bars)} of {len(known)} classes." if len(known) > len(bars) else ""
    return [Chart(chart, "AP by class", note)]


def _detection_table(found: DetectionFigures) -> Table:
    rows = [
        [
            entry.name,
            *(text.percent(figure) for figure in (entry.ap, entry.ap50, entry.ap75, entry.ar100)),
            f"{entry.truths:,}",
            f"{entry.detections:,}",
        ]
        for entry in found.classes[:_MOST_ROWS]
    ]
    columns = ["class", "AP", "AP50", "AP75", "AR100", "true boxes", "predicted"]
    return Table("Figures by class", columns, rows, note=text.left_out(len(found.classes), _MOST_ROWS), wide=True)
