"""Sections of the page of an evaluation with figures over all data and by slice, of vectors and of outputs."""

from __future__ import annotations

from collections.abc import Iterator

from engines.evaluation.report import EvaluationReport, MetricValue
from engines.reports import matrix_charts, metric_text, text
from engines.reports.matrix_charts import Interval
from engines.reports.page import Block, Cell, Chart, Facts, Section, Table

_MOST_ROWS = 200
_OVERALL = 30


def other_sections(report: EvaluationReport) -> Iterator[Section]:
    """Yield the figures over all data, and those of embeddings and raw outputs."""
    rows = [
        [metric_text.title(metric.name), metric_text.value(metric.name, metric.value), _range(metric)]
        for metric in report.metrics
        if not metric.slice
    ]
    blocks: list[Block] = []
    if rows:
        note = text.left_out(len(rows), _OVERALL)
        blocks.append(Table("Figures over all data", ["metric", "value", "95 % interval"], rows[:_OVERALL], note=note))
    if report.embedding is not None:
        vectors = report.embedding
        pairs = [
            ("dimension", str(vectors.dimension)),
            ("length, minimum", text.number(vectors.norm_min)),
            ("length, mean", text.number(vectors.norm_mean)),
            ("length, maximum", text.number(vectors.norm_max)),
            ("mean cosine similarity of two vectors", text.number(vectors.mean_cosine)),
            ("retrieval by", ", ".join(vectors.retrieval_keys) or "nothing"),
        ]
        blocks.append(Facts("Vectors", pairs))
    if report.outputs:
        blocks.append(_output_table(report))
    if blocks:
        yield Section("Figures", blocks)


def _output_table(report: EvaluationReport) -> Table:
    rows: list[list[str | Cell]] = [
        [
            output.name,
            f"{output.dtype} ({' × '.join(map(str, output.shape))})",
            Cell(f"{output.not_finite:,}", "bad" if output.not_finite else ""),
            text.number(output.minimum),
            text.number(output.mean),
            text.number(output.maximum),
            text.number(output.deviation),
        ]
        for output in report.outputs
    ]
    columns = ["output", "type", "not finite", "minimum", "mean", "maximum", "deviation"]
    return Table("Outputs", columns, rows, frozenset({0, 1}), wide=True)


def slice_section(report: EvaluationReport) -> Iterator[Section]:
    """Yield the main metric by slice, as a chart of intervals and as a table with other metrics."""
    if not report.slices:
        return
    overall = {metric.name: metric for metric in report.metrics if not metric.slice and "/" not in metric.name}
    sliced = {(metric.slice, metric.name): metric for metric in report.metrics if metric.slice}
    main = overall.get(report.main_metric)
    others = [name for name in overall if name != report.main_metric and any(key[1] == name for key in sliced)][:4]
    names = [report.main_metric, *others] if main else others
    rows: list[list[str | Cell]] = [
        [
            part.name,
            f"{part.samples:,}",
            *(_slice_cell(sliced.get((part.name, name)), overall.get(name)) for name in names),
        ]
        for part in report.slices[:_MOST_ROWS]
    ]
    columns = ["slice", "samples", *(metric_text.title(name) for name in names)]
    table = Table(
        "Figures by slice",
        columns,
        rows,
        note=text.left_out(len(report.slices), _MOST_ROWS),
        wide=main is None or len(names) > 2,
    )
    blocks: list[Block] = []
    if main is not None:
        blocks.append(_slice_chart(report, main, sliced))
    yield Section("Slices", [*blocks, table])


def _slice_cell(metric: MetricValue | None, whole: MetricValue | None) -> Cell:
    if metric is None:
        return Cell(text.NONE, "muted")
    worse = whole is not None and metric.high < whole.low
    return Cell(metric_text.value(metric.name, metric.value), "bad" if worse else "", _range(metric))


def _slice_chart(report: EvaluationReport, main: MetricValue, sliced: dict[tuple[str, str], MetricValue]) -> Chart:
    found = [(part, sliced.get((part.name, main.name))) for part in report.slices]
    rows = [
        Interval(part.name, metric.value, metric.low, metric.high, "bad" if metric.high < main.low else "accent",
                 f", {text.count(part.samples, 'sample')}")
        for part, metric in found
        if metric is not None
    ]  # fmt: skip
    if len(rows) > matrix_charts.MOST_INTERVALS:
        rows = sorted(rows, key=lambda row: row.value)
    label = f"{metric_text.title(main.name)} of {len(rows)} slices with 95 % intervals"
    chart = matrix_charts.intervals(
        "slices",
        label,
        rows,
        metric_text.title(main.name),
        lambda value: metric_text.value(main.name, value),
        center=main.value,
        tick=lambda value: metric_text.short(main.name, value),
    )
    note = "The line is the figure over all data; red if the whole interval is below that of all data."
    if len(rows) > matrix_charts.MOST_INTERVALS:
        note += f" The weakest {matrix_charts.MOST_INTERVALS} of {len(rows)} slices."
    return Chart(chart, f"{metric_text.title(main.name)} by slice, with 95 % intervals", note)


def _range(metric: MetricValue) -> str:
    return metric_text.interval(metric.name, metric.low, metric.high)
