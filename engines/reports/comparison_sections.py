"""Sections of the page of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from engines.evaluation.comparison.report import ComparisonReport, Delta, Regression
from engines.evaluation.report import MetricValue, TaskAnswer
from engines.reports import charts, matrix_charts, metric_text, text
from engines.reports.charts import Bar
from engines.reports.matrix_charts import Interval
from engines.reports.page import Cell, Chart, Gallery, Picture, Section, Table, Tone

_BY_CLASS = ("precision/", "recall/", "f1/", "ap/")
_MOST_ROWS = 200
_MOST_SHOWN = 48
_SHOWN_BOXES = 5


def names_of(report: ComparisonReport) -> dict[str, str]:
    """Return a display name of each evaluation: its package, with a number if two have the same name."""
    titles = [f"{entry.package.repo} {entry.package.version}".strip() or entry.name for entry in report.evaluations]
    with_form = [f"{title} {entry.package.precision}" for title, entry in zip(titles, report.evaluations, strict=True)]
    chosen = titles if len(set(titles)) == len(titles) else with_form
    counts = Counter(chosen)
    seen: Counter[str] = Counter()
    names = {}
    for entry, title in zip(report.evaluations, chosen, strict=True):
        seen[title] += 1
        names[entry.name] = title if counts[title] == 1 else f"{title} ({seen[title]})"
    return names


def tone_of(delta: MetricValue) -> Tone:
    """Return good or bad if the interval of a difference excludes 0."""
    return "good" if delta.low > 0 else ("bad" if delta.high < 0 else "")


def _role(delta: MetricValue) -> str:
    return tone_of(delta) or "muted"


def _label(entry: Delta, what: str, names: dict[str, str], report: ComparisonReport) -> str:
    return what if len(report.evaluations) == 2 else f"{what} · {names[entry.task]}"


def _forest(key: str, caption: str, rows: Sequence[tuple[str, Delta]], note: str = "") -> Chart:
    marks = [Interval(name, *_three(entry.delta), role=_role(entry.delta)) for name, entry in rows]
    first = rows[0][1].delta.name
    words = "; ".join(f"{row.name} {metric_text.delta(first, row.value)}" for row in marks[:12])
    chart = matrix_charts.intervals(
        key,
        f"{caption}: {words}",
        marks,
        f"difference, {metric_text.delta_unit(first)}",
        lambda value: metric_text.delta(first, value),
        center=0,
        tick=lambda value: metric_text.delta_tick(first, value),
    )
    shown = (
        f"{note} The first {matrix_charts.MOST_INTERVALS} of {len(marks)}."
        if len(marks) > matrix_charts.MOST_INTERVALS
        else note
    )
    return Chart(chart, caption, shown.strip())


def _three(delta: MetricValue) -> tuple[float, float, float]:
    return delta.value, delta.low, delta.high


def _table(
    caption: str, first: str, rows: Sequence[tuple[str, Delta]], report: ComparisonReport, names: dict[str, str]
) -> Table:
    several = len(report.evaluations) > 2
    cells: list[list[str | Cell]] = [
        [
            name,
            *([names[entry.task]] if several else []),
            Cell(
                metric_text.delta(entry.delta.name, entry.delta.value),
                tone_of(entry.delta),
                metric_text.delta_interval(entry.delta.name, entry.delta.low, entry.delta.high),
            ),
            metric_text.value(entry.delta.name, entry.value),
            metric_text.value(entry.delta.name, entry.reference),
        ]
        for name, entry in rows[:_MOST_ROWS]
    ]
    columns = [first, *(["evaluation"] if several else []), "difference", "value", "reference"]
    note = text.left_out(len(rows), _MOST_ROWS).replace("report.json", "comparison.json")
    return Table(caption, columns, cells, frozenset({0, 1} if several else {0}), note)


def delta_section(report: ComparisonReport, names: dict[str, str]) -> Iterator[Section]:
    """Yield the differences over all data."""
    found = [entry for entry in report.deltas if not entry.delta.slice and not entry.delta.name.startswith(_BY_CLASS)]
    if not found:
        return
    found.sort(key=lambda entry: entry.delta.name != report.main_metric)
    rows = [(metric_text.title(entry.delta.name), entry) for entry in found]
    marks = [(_label(entry, name, names, report), entry) for name, entry in rows]
    note = "Green or red if the whole interval is on one side of 0."
    chart = _forest("differences", "Differences from the reference, with 95 % intervals", marks, note)
    yield Section("Differences", [chart, _table("Figures over all data", "metric", rows, report, names)])


def slice_section(report: ComparisonReport, names: dict[str, str]) -> Iterator[Section]:
    """Yield the differences of the main metric by slice."""
    found = [entry for entry in report.deltas if entry.delta.slice and entry.delta.name == report.main_metric]
    if not found:
        return
    sizes = {part.name: part.samples for part in report.slices}
    rows = [(f"{entry.delta.slice} ({sizes.get(entry.delta.slice, 0):,})", entry) for entry in found]
    marks = [(_label(entry, entry.delta.slice, names, report), entry) for entry in found]
    title = metric_text.title(report.main_metric)
    chart = _forest("slices", f"{title} by slice", marks)
    yield Section("Slices", [chart, _table(f"{title} by slice", "slice (samples)", rows, report, names)])


def class_section(report: ComparisonReport, names: dict[str, str]) -> Iterator[Section]:
    """Yield the differences of F1 or AP by class, the largest losses first."""
    found = [entry for entry in report.deltas if not entry.delta.slice and entry.delta.name.startswith(("f1/", "ap/"))]
    if not found:
        return
    found.sort(key=lambda entry: (entry.delta.value, entry.delta.name))
    kind = "F1" if found[0].delta.name.startswith("f1/") else "AP"
    rows = [(entry.delta.name.partition("/")[2], entry) for entry in found]
    marks = [(_label(entry, name, names, report), entry) for name, entry in rows]
    chart = _forest("by-class", f"{kind} by class, the largest losses first", marks)
    yield Section("Classes", [chart, _table(f"{kind} by class", "class", rows, report, names)])


def regression_section(report: ComparisonReport, names: dict[str, str]) -> Iterator[Section]:
    """Yield the samples that got worse: a grid of those with a picture, and a table of the others."""
    if not report.regressions:
        return
    several = len(report.evaluations) > 2
    with_picture = [row for row in report.regressions if row.image_png][:_MOST_SHOWN]
    others = [row for row in report.regressions if not row.image_png]
    blocks: list[Gallery | Table] = []
    if with_picture:
        pictures = [Picture(row.image_png, row.sample, _lines(row, names, several=several)) for row in with_picture]
        blocks.append(Gallery("The worst samples with a picture", pictures))
    if others:
        blocks.append(_regression_table(others, names, several=several))
    count = sum(report.regressed.values())
    intro = f"{text.count(count, 'sample')} got worse; {len(report.regressions):,} are listed, the worst first."
    yield Section("Samples that got worse", blocks, intro)


def _lines(row: Regression, names: dict[str, str], *, several: bool) -> list[Cell]:
    before, after = _said(row)
    lines = [Cell(after, "bad"), Cell(f"reference: {before}", "good")]
    if several:
        lines.insert(0, Cell(names[row.task], "muted"))
    lines += [Cell(f"{name}: {value}", "muted") for name, value in row.attributes.items()]
    return [*lines, Cell(f"worse by {text.number(row.loss)}", "muted")]


def _regression_table(rows: Sequence[Regression], names: dict[str, str], *, several: bool) -> Table:
    cells: list[list[str | Cell]] = [
        [
            Cell(row.sample, detail=", ".join(f"{name}: {value}" for name, value in row.attributes.items())),
            *([names[row.task]] if several else []),
            _said(row)[0],
            Cell(_said(row)[1], "bad"),
            text.number(row.loss),
        ]
        for row in rows
    ]
    columns = ["sample", *(["evaluation"] if several else []), "reference", "now", "worse by"]
    return Table("Without a picture", columns, cells, frozenset(range(len(columns) - 1)), wide=True)


def _said(row: Regression) -> tuple[str, str]:
    """Return the reference's and the evaluation's answers on a sample in words."""
    if row.before or row.after:
        return _answers(row.before), _answers(row.after)
    if row.boxes_before or row.boxes_after or row.truths:
        return _boxes(
            row.boxes_before
        ), f"{_boxes(row.boxes_after)} ({text.count(len(row.truths), 'true box', 'true boxes')})"
    return text.NONE, text.NONE


def _answers(answers: Sequence[TaskAnswer]) -> str:
    several = len(answers) > 1
    parts = [
        f"{f'{entry.task}: ' if several else ''}{entry.predicted or 'no prediction'} ({text.percent(entry.score, 0)})"
        + (f", not {entry.truth}" if entry.correct is False else "")
        for entry in answers
    ]
    return "; ".join(parts) or text.NONE


def _boxes(boxes: Sequence[str]) -> str:
    more = f" and {len(boxes) - _SHOWN_BOXES} more" if len(boxes) > _SHOWN_BOXES else ""
    return (", ".join(boxes[:_SHOWN_BOXES]) or "nothing") + more


def speed_section(report: ComparisonReport, names: dict[str, str]) -> Section:
    """Return latency, throughput and size side by side."""
    bars = [
        Bar(names[entry.name], entry.times.latency_p50_ms, role="series-7" if not place else "accent")
        for place, entry in enumerate(report.evaluations)
    ]
    words = ", ".join(f"{bar.name} {text.milliseconds(bar.value)}" for bar in bars)
    chart = charts.bars("latency", f"Median latency: {words}", bars, "median latency, ms", text.milliseconds,
                        tick=lambda value: f"{value:g}")  # fmt: skip
    rows: list[list[str | Cell]] = [
        [
            names[entry.name],
            *(
                text.milliseconds(value)
                for value in (entry.times.latency_p50_ms, entry.times.latency_p90_ms, entry.times.latency_p99_ms)
            ),
            f"{text.number(entry.times.throughput)}{text.SPACE}/s",
            text.size(entry.times.peak_memory_bytes),
            text.size(entry.package.size_bytes),
        ]
        for entry in report.evaluations
    ]
    columns = ["evaluation", "p50", "p90", "p99", "throughput", "peak memory", "size"]
    batches = {entry.times.batch_size for entry in report.evaluations}
    threads = {entry.times.threads for entry in report.evaluations}
    note = "From separate runs, not a paired measurement."
    if len(batches) > 1 or len(threads) > 1:
        note += " Batch sizes or threads differ, so these latencies are not comparable."
    return Section(
        "Speed", [Chart(chart, "Latency of one call, median"), Table("Side by side", columns, rows, note=note)]
    )
