"""Sections of an optimization's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engines.reports import charts, matrix_charts, metric_text, text
from engines.reports.charts import Point
from engines.reports.matrix_charts import Interval
from engines.reports.optimization_values import (
    Candidate,
    baseline_name,
    cosine,
    largest_error,
    median_ms,
    memory_bytes,
    numbered,
    outcome,
    size_bytes,
    verdict,
)
from engines.reports.page import Block, Cell, Chart, Facts, Section, Table, Tone
from engines.reports.quantization_values import as_number

_OUTCOME_TONES: dict[str, Tone] = {"recommended": "good", "failed": "bad", "left out": "muted", "Pareto": ""}
_VERDICT_TONES: dict[str, Tone] = {"PASS": "good", "WARN": "warn", "FAIL": "bad"}
_MIB = 1 << 20
_MOST_SPEEDUPS = 15


def figures_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the figures that users look for first, under the names that they know."""
    figures = result.get("optimization_result") or {}
    hardware, data = result.get("hardware_environment") or {}, result.get("test_data_info") or {}
    pairs = [
        ("baseline_time", text.milliseconds(as_number(figures.get("baseline_time")))),
        ("optimized_time", text.milliseconds(as_number(figures.get("optimized_time")))),
        ("baseline_qps", text.number(as_number(figures.get("baseline_qps")), 4)),
        ("optimized_qps", text.number(as_number(figures.get("optimized_qps")), 4)),
        ("speedup", f"{as_number(figures.get('speedup')):.2f}×"),
    ]
    machine = [(key, str(hardware.get(key) or text.NONE)) for key in ("device_type", "microarchitecture")]
    keys = ("test_data_source", "test_data_shape", "test_data_type")
    tested = [(key, str(data.get(key) or text.NONE)) for key in keys]
    programs = [(str(entry["software"]), str(entry["version"])) for entry in result.get("software_environment", [])]
    yield Section(
        "Result",
        [
            Facts("optimization_result", pairs),
            Facts("hardware_environment", machine),
            Facts("test_data_info", tested),
            Facts("software_environment", programs),
        ],
    )


def candidate_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield every candidate with its figures, or why it has none."""
    rows = numbered(result)
    if not rows:
        return
    metric = str(result.get("metric") or "accuracy")
    judged = any(entry.get("accuracy") is not None for _, entry in rows)
    sampled = any(entry.get("samples_per_second") for _, entry in rows)
    columns = ["", "form", "parity", "latency, p50", "speed-up"]
    columns += ["samples/s"] * sampled + [metric_text.title(metric)] * judged + ["size", "memory", "outcome"]
    base = baseline_name(result)
    cells = [_row(number, entry, base, metric if judged else "", sampled=sampled) for number, entry in rows]
    table = Table("Every form that was tried", columns, cells, frozenset({1, len(columns) - 1}), wide=True)
    yield Section("Candidates", [*_plots(rows, metric, judged=judged), table], _counts(rows, base))


def _counts(rows: list[tuple[int, Candidate]], base: str) -> str:
    outcomes = [outcome(entry, base)[0] for _, entry in rows]
    parts = [text.count(len(rows), "form")]
    parts += [f"{outcomes.count(word)} {word}" for word in ("failed", "left out") if word in outcomes]
    return f"{', '.join(parts)}. Numbers are those of the plots."


def _row(number: int, entry: Candidate, base: str, metric: str, *, sampled: bool) -> list[str | Cell]:
    latency = entry.get("latency") or {}
    word, why = outcome(entry, base)
    measured_by = entry.get("measured_by")
    best = bool(entry.get("recommended"))
    row: list[str | Cell] = [
        str(number),
        Cell(str(entry.get("form", "")), "good" if best else "", _made_of(entry)),
        Cell(text.number(cosine(entry), 4), _VERDICT_TONES.get(verdict(entry), ""), verdict(entry)),
        Cell(text.milliseconds(median_ms(entry)), detail=_tail(latency)),
        _speedup(latency),
    ]
    if sampled:
        row.append(text.number(as_number(entry.get("samples_per_second") or None), 4))
    if metric:
        accuracy = entry.get("accuracy")
        row.append(metric_text.value(metric, None if accuracy is None else float(accuracy)))
    sizes = (size_bytes(entry), memory_bytes(entry))
    row += [text.NONE if math.isnan(amount) else text.size(amount) for amount in sizes]
    detail = " ".join(part for part in (why, f"Measured by {measured_by}." if measured_by else "") if part)
    return [*row, Cell(word, _OUTCOME_TONES.get(word, ""), detail)]


def _made_of(entry: Candidate) -> str:
    """Return what the name of the form does not say: what quantized it."""
    quantizer = str(entry.get("quantizer") or "")
    return "" if quantizer in {"", "quantized"} else quantizer


def _tail(latency: Mapping[str, Any]) -> str:
    return f"p99 {text.milliseconds(as_number(latency.get('p99_ms')))}" if latency.get("p99_ms") else ""


def _speedup(latency: Mapping[str, Any]) -> str | Cell:
    if not latency.get("speedup"):
        return text.NONE
    low, high = as_number(latency.get("speedup_low")), as_number(latency.get("speedup_high"))
    return Cell(f"{as_number(latency['speedup']):.2f}×", detail=f"{low:.2f} to {high:.2f}")


def _plots(rows: list[tuple[int, Candidate]], metric: str, *, judged: bool) -> list[Block]:
    blocks: list[Block] = []
    if judged:
        quality = f"{metric_text.title(metric)}, %"
        blocks += _plot("quality", rows, quality, lambda entry: 100 * as_number(entry.get("accuracy")), "Up")
    else:
        blocks += _plot("quality", rows, "cosine to the source", cosine, "Up")
    return blocks + _plot("size", rows, "size, MiB", lambda entry: size_bytes(entry) / _MIB, "Down")


def _plot(
    key: str, rows: list[tuple[int, Candidate]], label: str, value: Callable[[Candidate], float], better: str
) -> list[Block]:
    points = [
        Point(
            str(entry["form"]),
            median_ms(entry),
            value(entry),
            bool(entry.get("recommended")),
            str(number),
            "accent" if entry.get("pareto") or entry.get("recommended") else "series-7",
        )
        for number, entry in rows
        if median_ms(entry) > 0 and math.isfinite(value(entry)) and verdict(entry) != "FAIL"
    ]
    if len(points) < 2:
        return []
    words = "; ".join(f"{point.name}: {text.number(point.x)} ms, {text.number(point.y, 4)}" for point in points)
    chart = charts.scatter(key, f"Latency against {label}. {words}", points, "median latency, ms", label)
    note = (
        f"{better} and to the left is better. Coloured points are the Pareto set: no other form is better in latency, "
        "accuracy and size; the large one is recommended."
    )
    return [Chart(chart, f"Latency against {label.split(',', maxsplit=1)[0]}", note)]


def latency_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the paired latencies beside the A/A control."""
    profile = result.get("profile") or {}
    forms, control = profile.get("forms", []), profile.get("control")
    if not forms or not control:
        return
    named = [*((str(form["form"]), form) for form in forms[1:]), ("A/A control", control)]
    rows = [*_speedups(result), _interval("A/A control", control, "muted")]
    words = "; ".join(f"{row.name}: {row.value:.2f}, {row.low:.2f} to {row.high:.2f}" for row in rows)
    chart = matrix_charts.intervals(
        "speedup",
        f"Speed-up over {forms[0]['form']} with 95 % intervals. {words}",
        rows,
        "times as fast as the source",
        lambda value: f"{value:.2f}×",
        center=1.0,
    )
    conclusions = profile.get("conclusions", {})
    cells: list[list[str | Cell]] = [
        [
            Cell(name, detail="the source" if form is forms[0] else str(conclusions.get(name, ""))),
            *(text.milliseconds(as_number(form.get(key))) for key in ("median_ms", "p90_ms", "p99_ms")),
            "1" if form is forms[0] else f"{as_number(form.get('speedup')):.2f}×",
        ]
        for name, form in [(str(forms[0]["form"]), forms[0]), *named]
    ]
    threads = text.count(int(as_number(profile.get("threads", 0))), "thread")
    setting = (
        f"Batch of {as_number(profile.get('batch_size')):.0f}, {threads}, "
        f"{as_number(profile.get('rounds')):.0f} interleaved rounds on {profile.get('hardware') or 'this machine'}."
    )
    note = "A whole interval to the right of the control's is a win; one that overlaps it is none."
    table = Table("Latency side by side", ["form", "p50", "p90", "p99", "speed-up"], cells)
    yield Section("Speed", [Chart(chart, "Speed-up over the source, with 95 % intervals", note), table], setting)


def _speedups(result: Mapping[str, Any]) -> list[Interval]:
    """Return the speed-ups of the fastest candidates, the fastest first."""
    base = baseline_name(result)
    measured = [
        entry
        for _, entry in numbered(result)
        if (entry.get("latency") or {}).get("speedup") and entry.get("form") != base and verdict(entry) != "FAIL"
    ]
    measured.sort(key=lambda entry: as_number(entry["latency"]["speedup"]), reverse=True)
    return [
        _interval(str(entry["form"]), entry["latency"], "accent" if entry.get("recommended") else "series-7")
        for entry in measured[:_MOST_SPEEDUPS]
    ]


def _interval(name: str, form: Mapping[str, Any], role: str) -> Interval:
    value, low, high = (as_number(form.get(key)) for key in ("speedup", "speedup_low", "speedup_high"))
    return Interval(name, value, low, high, role)


def parity_section(entry: Candidate | None) -> Iterator[Section]:
    """Yield how each output of the recommended form compares with the source's."""
    parity = (entry or {}).get("parity") or {}
    if not parity.get("outputs"):
        return
    rows: list[list[str | Cell]] = [
        [
            str(output.get("output", "")),
            *(text.number(as_number(output.get(key)), 4) for key in ("cosine", "max_rel_error", "max_abs_error")),
            f"{text.number(as_number(output.get('sqnr_db')))}{text.SPACE}dB",
            text.percent(None if output.get("top1_agreement") is None else as_number(output["top1_agreement"])),
            Cell(str(output.get("verdict", "")), _VERDICT_TONES.get(str(output.get("verdict")), "")),
        ]
        for output in parity["outputs"]
    ]
    columns = ["output", "cosine", "relative error", "largest error", "SQNR", "same top-1", "verdict"]
    held = f"held to {text.number(as_number(parity.get('threshold')))}"
    samples = text.count(int(as_number(parity.get("samples", 0))), "sample")
    worst = text.number(largest_error(entry or {}), 2)
    intro = (
        f"The recommended form over {samples}, {parity.get('sample_source', '')}, {held}; worst relative error {worst}."
    )
    yield Section("Parity with the source", [Table("Outputs", columns, rows, wide=True)], intro)
