"""Sections of the page of an evaluation about classes: bars, the confusion matrix, the figures of each class."""

from __future__ import annotations

from collections.abc import Iterator

from engines.evaluation.report import EvaluationReport
from engines.evaluation.report_figures import ClassificationTask, ConfusionMatrix
from engines.reports import charts, matrix_charts, text
from engines.reports.charts import Bar
from engines.reports.page import Block, Chart, Section, Table

_MOST_ROWS = 200
_PAIRS = 25


def classification_sections(report: EvaluationReport) -> Iterator[Section]:
    """Yield a section per task, with bars by class, the confusion matrix, and the figures of each class."""
    for place, task in enumerate(report.classification):
        title = "Classes" if len(report.classification) == 1 else f"Task {task.task}"
        blocks: list[Block] = [_class_bars(task, place), confusion_block(task.confusion, f"confusion-{place}")]
        yield Section(title, [*blocks, _class_table(task)], _task_words(task))


def _task_words(task: ClassificationTask) -> str:
    top5 = f", top-5 {text.percent(task.top5)}" if task.top5 is not None else ""
    return (
        f"{text.count(task.samples, 'sample')}: top-1 {text.percent(task.top1)}{top5}; averages over classes: "
        f"precision {text.percent(task.macro.precision)}, recall {text.percent(task.macro.recall)}, "
        f"F1 {text.percent(task.macro.f1)}."
    )


def _class_bars(task: ClassificationTask, place: int) -> Chart:
    weakest = sorted(task.classes, key=lambda entry: (entry.f1, entry.name))[: charts.MOST_BARS]
    shown = [entry for entry in task.classes if entry in weakest] if len(task.classes) <= charts.MOST_BARS else weakest
    bars = [
        Bar(
            entry.name,
            entry.f1,
            f"{entry.name}: F1 {text.percent(entry.f1)}, precision {text.percent(entry.precision)}, "
            f"recall {text.percent(entry.recall)}, {text.count(entry.support, 'sample')}",
        )
        for entry in shown
    ]
    label = (
        f"F1 of {len(bars)} classes of the task {task.task}, from {text.percent(min(bar.value for bar in bars))}"
        if bars
        else "no class"
    )
    chart = charts.bars(
        f"classes-{place}", label, bars, "F1", text.percent, limit=1, tick=lambda value: text.percent(value, 0)
    )
    left = len(task.classes) - len(bars)
    return Chart(chart, "F1 by class", f"The weakest {len(bars)} of {len(task.classes)} classes." if left else "")


def confusion_block(matrix: ConfusionMatrix, key: str) -> Block:
    """Return a confusion matrix as a chart, or for many classes its most confused pairs as a table."""
    note = (
        f"{text.count(matrix.not_predicted, 'sample')} without a prediction not shown. " if matrix.not_predicted else ""
    )
    if len(matrix.classes) > matrix_charts.MOST_CLASSES or matrix.left_out:
        return _confused_pairs(matrix, note)
    label = f"Confusion matrix of {len(matrix.classes)} classes: " + _confusion_words(matrix)
    chart = matrix_charts.confusion(key, label, matrix.classes, matrix.counts)
    return Chart(chart, "Confusion matrix", f"{note}Rows are true classes; the shade is the share of the row.")


def _pairs(matrix: ConfusionMatrix) -> list[tuple[int, int, int]]:
    wrong = [
        (count, true, predicted)
        for true, row in enumerate(matrix.counts)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(wrong, key=lambda entry: (-entry[0], entry[1], entry[2]))


def _confusion_words(matrix: ConfusionMatrix) -> str:
    pairs = _pairs(matrix)
    if not pairs:
        return "no sample was confused."
    count, true, predicted = pairs[0]
    return f"most often {matrix.classes[true]} was predicted as {matrix.classes[predicted]}, {count} times."


def _confused_pairs(matrix: ConfusionMatrix, note: str) -> Table:
    rows = [
        [
            matrix.classes[true],
            matrix.classes[predicted],
            f"{count:,}",
            text.percent(count / sum(matrix.counts[true])),
        ]
        for count, true, predicted in _pairs(matrix)[:_PAIRS]
    ]
    if matrix.left_out:
        note += f"{matrix.left_out} classes are combined as {matrix.classes[-1]}. "
    return Table(
        "Most confused classes",
        ["true", "predicted as", "samples", "of the class"],
        rows,
        frozenset({0, 1}),
        f"{note}The whole matrix is too large to show.",
    )


def _class_table(task: ClassificationTask) -> Table:
    rows = [
        [entry.name, text.percent(entry.precision), text.percent(entry.recall), text.percent(entry.f1),
         f"{entry.support:,}", f"{entry.predicted:,}"]
        for entry in task.classes[:_MOST_ROWS]
    ]  # fmt: skip
    columns = ["class", "precision", "recall", "F1", "true samples", "predicted"]
    return Table("Figures by class", columns, rows, note=text.left_out(len(task.classes), _MOST_ROWS), wide=True)
