"""The page of a comparison of evaluations."""

from __future__ import annotations

from collections.abc import Iterator

from engines.evaluation.comparison.report import ComparedEvaluation, ComparisonReport, Delta
from engines.reports import metric_text, text
from engines.reports.comparison_sections import (
    class_section,
    delta_section,
    names_of,
    regression_section,
    slice_section,
    speed_section,
    tone_of,
)
from engines.reports.page import Cell, Facts, Notes, Page, Section, Table, Tile, Tone, render
from engines.spec.template import DETECTORS

_AGREEMENT = {
    "embedding": "mean cosine similarity of both vectors",
    "classification": "same class in every task",
    "multi_classification": "same class in every task",
}


def comparison_html(report: ComparisonReport) -> str:
    """Return the report as one self-contained HTML file; equal reports give equal text."""
    names = names_of(report)
    words, tone = _verdict(report, names)
    first = report.evaluations[0]
    return render(
        Page(
            kind="Comparison",
            title=" compared with ".join(
                [_joined([names[entry.name] for entry in report.evaluations[1:]]), names[first.name]]
            ),
            subtitle=f"{text.count(report.samples, 'shared sample')}; {names[first.name]} is the reference",
            verdict=words,
            tone=tone,
            tiles=_tiles(report),
            sections=list(_sections(report, names)),
            small_print=_small_print(report),
        )
    )


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _main(report: ComparisonReport) -> list[Delta]:
    return [entry for entry in report.deltas if entry.delta.name == report.main_metric and not entry.delta.slice]


def _verdict(report: ComparisonReport, names: dict[str, str]) -> tuple[str, Tone]:
    found = _main(report)
    if not found:
        return "Nothing could be evaluated on the shared samples; see below how far the evaluations agree.", ""
    sentences = []
    for entry in found:
        outcome = metric_text.conclusion(entry.delta.low, entry.delta.high)
        changed = metric_text.delta(entry.delta.name, entry.delta.value)
        span = metric_text.delta_interval(entry.delta.name, entry.delta.low, entry.delta.high)
        what = metric_text.title(entry.delta.name)
        if outcome == "no difference shown":
            sentences.append(f"{names[entry.task]}: no significant difference in {what} ({changed}, {span}).")
        else:
            sentences.append(f"{names[entry.task]} is {outcome} in {what} by {changed.lstrip('+−')} ({span}).")
    tones = [tone_of(entry.delta) for entry in found]
    if "bad" in tones:
        return " ".join(sentences), "warn" if "good" in tones else "bad"
    return " ".join(sentences), "good" if "good" in tones else ""


def _tiles(report: ComparisonReport) -> list[Tile]:
    first, last, found = report.evaluations[0], report.evaluations[-1], _main(report)
    tiles = []
    if len(report.evaluations) == 2 and found:
        delta, values = found[0].delta, (found[0].reference, found[0].value)
        before, after = (metric_text.value(delta.name, value) for value in values)
        tiles.append(Tile(metric_text.title(delta.name), after, f"from {before}"))
        span = metric_text.delta_interval(delta.name, delta.low, delta.high)
        tiles.append(Tile("Difference", metric_text.delta(delta.name, delta.value), span, tone_of(delta)))
    if report.agreement is not None:
        written = text.number(report.agreement, 4) if report.method == "embedding" else text.percent(report.agreement)
        tiles.append(Tile("Agreement", written, _AGREEMENT.get(report.method, "images with the same boxes")))
    tiles.append(Tile("Got worse", f"{sum(report.regressed.values()):,}", text.count(report.samples, "shared sample")))
    if len(report.evaluations) == 2:
        was = f"from {text.milliseconds(first.times.latency_p50_ms)}, in separate runs"
        tiles.append(Tile("Latency, p50", text.milliseconds(last.times.latency_p50_ms), was))
        was = f"from {text.size(first.package.size_bytes)}"
        tiles.append(Tile("Package size", text.size(last.package.size_bytes), was))
    return tiles


def _sections(report: ComparisonReport, names: dict[str, str]) -> Iterator[Section]:
    if report.warnings:
        yield Section("Warnings", [Notes(report.warnings, "warn")])
    yield _side_by_side(report, names)
    yield from delta_section(report, names)
    yield from slice_section(report, names)
    yield from class_section(report, names)
    yield from regression_section(report, names)
    yield speed_section(report, names)
    yield Section("Evaluations", [_package(entry, names) for entry in report.evaluations])


def _side_by_side(report: ComparisonReport, names: dict[str, str]) -> Section:
    deltas = {entry.task: entry for entry in _main(report)}
    reference = next(iter(deltas.values()), None)
    rows: list[list[str | Cell]] = []
    for place, entry in enumerate(report.evaluations):
        found = deltas.get(entry.name)
        if found is None:
            main, change = Cell(text.NONE), Cell("reference" if not place else text.NONE, "muted")
            if not place and reference is not None:
                main = Cell(metric_text.value(reference.delta.name, reference.reference))
        else:
            delta = found.delta
            main = Cell(metric_text.value(delta.name, found.value))
            change = Cell(metric_text.delta(delta.name, delta.value), tone_of(delta),
                          metric_text.delta_interval(delta.name, delta.low, delta.high))  # fmt: skip
        rows.append([names[entry.name], main, change, *_sample_cells(report, entry)])
    title = metric_text.title(report.main_metric) if report.main_metric else "figure"
    columns = ["evaluation", title, "difference", "agreement", "got worse", "lost · won", "p (McNemar)"]
    table = Table("The same samples, side by side", columns, rows, wide=True)
    return Section("Side by side", [table])


def _sample_cells(report: ComparisonReport, entry: ComparedEvaluation) -> list[str | Cell]:
    agreement, test = text.NONE, entry.test
    if entry.agreement is not None:
        agreement = text.number(entry.agreement, 4) if report.method == "embedding" else text.percent(entry.agreement)
    regressed = report.regressed.get(entry.name)
    return [
        agreement,
        text.NONE if regressed is None else f"{regressed:,}",
        text.NONE if test is None else f"{test.lost:,} · {test.won:,}",
        text.NONE if test is None else text.number(test.p_value, 2),
    ]


def _package(entry: ComparedEvaluation, names: dict[str, str]) -> Facts:
    package = entry.package
    return Facts(
        names[entry.name],
        [
            ("evaluation", entry.name),
            ("package", f"{package.repo} {package.version}"),
            ("precision", package.precision),
            ("runtime", f"{package.runtime} {package.runtime_version}"),
            ("device", package.device),
            ("size", text.size(package.size_bytes)),
            ("samples", f"{entry.samples:,}"),
        ],
    )


def _small_print(report: ComparisonReport) -> list[str]:
    lines = [
        f"Both sides' figures are over the same {text.count(report.samples, 'sample')}. The 95 % intervals of the "
        f"differences use at most {report.resamples} paired bootstrap draws, with the same samples for both sides and "
        f"the seed {report.seed}. An interval that includes 0 means that this data shows no difference, not that there "
        "is none.",
        "There are many intervals, one per class and slice; one in twenty misses the true value by chance.",
        "McNemar's exact test considers the samples that only one side has right (lost, won). A small p means that "
        "their split is unlikely to be chance.",
        "Latencies are from separate runs, possibly at different times and on different machines. They are not a "
        "paired measurement.",
    ]
    if report.method in DETECTORS:
        lines.append(
            "Two detectors agree on an image if every box of either with a score of at least 0.5 has its own match "
            "among the other's boxes: the same class, an intersection over union of at least 0.5, and a score of at "
            "least 0.25."
        )
    return lines
