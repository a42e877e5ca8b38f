"""Sections of an optimization's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engines.reports import metric_text, text
from engines.reports.charts import Point
from engines.reports.matrix_charts import Interval
from engines.reports.optimization_values import (
    Candidate,
    baseline_name,
    cosine,
    median_ms,
    memory_bytes,
    numbered,
    outcome,
    size_bytes,
    verdict,
)
from engines.reports.page import Block, Cell, Facts, Notes, Section, Table, Tone
from engines.reports.parity_section import VERDICT_TONES
from engines.reports.speed import interval, latency_plot
from engines.reports.text import as_number
from engines.tensors.samples import SampleSource

_OUTCOME_TONES: dict[str, Tone] = {"recommended": "good", "failed": "bad", "left out": "muted", "Pareto": ""}
_KIB, _MIB = 1 << 10, 1 << 20
_MOST_SPEEDUPS = 15
_ROUNDING = 1e-5


def figures_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the figures that users look for first, under the names that they know."""
    figures = result.get("optimization_result") or {}
    hardware, data = result.get("hardware_environment") or {}, result.get("test_data_info") or {}
    pairs = [
        ("baseline_time_ms", text.milliseconds(as_number(figures.get("baseline_time_ms")))),
        ("optimized_time_ms", text.milliseconds(as_number(figures.get("optimized_time_ms")))),
        ("baseline_qps", text.number(as_number(figures.get("baseline_qps")), 4)),
        ("optimized_qps", text.number(as_number(figures.get("optimized_qps")), 4)),
        ("speedup", f"{as_number(figures.get('speedup')):.2f}×"),
    ]
    machine = [(key, str(hardware.get(key) or text.NONE)) for key in ("device_type", "microarchitecture")]
    source = SampleSource(data["test_data_source"]).words if "test_data_source" in data else text.NONE
    tested = [("test_data_source", source)]
    tested += [(key, str(data.get(key) or text.NONE)) for key in ("test_data_shape", "test_data_type")]
    programs = [(str(entry["name"]), str(entry["version"])) for entry in result.get("software", [])]
    yield Section(
        "Result",
        [
            Facts("optimization_result", pairs),
            Facts("test_data_info", tested),
            Facts("hardware_environment", machine, wide=True),
            Facts("software", programs, wide=True),
        ],
    )


def candidate_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield every candidate with its figures, or why it has none."""
    every = numbered(result)
    rows = [(number, entry) for number, entry in every if not _is_untried(entry)]
    untried = [(number, entry) for number, entry in every if _is_untried(entry)]
    if not every:
        return
    metric = str(result.get("metric") or "accuracy")
    judged = any(entry.get("accuracy") is not None for _, entry in rows)
    sampled = any(entry.get("samples_per_second") for _, entry in rows)
    columns = ["", "form", "parity", "latency, p50", "speed-up"]
    columns += ["samples/s"] * sampled + [metric_text.title(metric)] * judged + ["size", "memory", "outcome"]
    base = baseline_name(result)
    cells = [_row(number, entry, base, metric if judged else "", sampled=sampled) for number, entry in rows]
    table = Table("Every form that was tried", columns, cells, frozenset({1, len(columns) - 1}), wide=True)
    blocks = [*_plots(rows, metric, judged=judged), table, *_untried(untried)]
    yield Section("Candidates", blocks, _counts([*rows, *untried], base))


def _is_untried(entry: Candidate) -> bool:
    return not entry.get("failure") and not entry.get("parity") and not entry.get("latency")


def _untried(rows: list[tuple[int, Candidate]]) -> Iterator[Notes]:
    """Yield the forms that have no figures, by the reason why."""
    reasons: dict[str, list[str]] = {}
    for _, entry in rows:
        reasons.setdefault(str(entry.get("note") or "not measured"), []).append(str(entry.get("form", "")))
    if reasons:
        yield Notes([f"{text.count(len(forms), 'form')} {why}: {'; '.join(forms)}." for why, forms in reasons.items()])


def _counts(rows: list[tuple[int, Candidate]], base: str) -> str:
    outcomes = [outcome(entry, base)[0] for _, entry in rows]
    parts = [text.count(len(rows), "form")]
    parts += [f"{outcomes.count(word)} {word}" for word in ("failed", "left out") if word in outcomes]
    return (
        f"{', '.join(parts)}. Forms are timed in different rounds, each together with the source: a latency is the "
        "source's median divided by the paired speed-up, so that all compare. Numbers are those of the plots."
    )


def _row(number: int, entry: Candidate, base: str, metric: str, *, sampled: bool) -> list[str | Cell]:
    latency = entry.get("latency") or {}
    word, why = outcome(entry, base)
    best = bool(entry.get("recommended"))
    row: list[str | Cell] = [
        str(number),
        Cell(str(entry.get("form", "")), "good" if best else "", _made_of(entry)),
        Cell(text.number(cosine(entry), 5), VERDICT_TONES.get(verdict(entry), ""), verdict(entry)),
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
    detail = " ".join(
        part for part in (why, "Measured by an earlier search." if entry.get("measured_by") else "") if part
    )
    return [*row, Cell(word, _OUTCOME_TONES.get(word, ""), detail)]


def _made_of(entry: Candidate) -> str:
    """Return what the name of the form does not say: what quantized it."""
    return str(entry.get("quantizer") or "")


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
    sizes = [size_bytes(entry) for _, entry in rows]
    unit, name = (_MIB, "MiB") if any(size >= _MIB for size in sizes) else (_KIB, "KiB")
    return blocks + _plot("size", rows, f"size, {name}", lambda entry: size_bytes(entry) / unit, "Down")


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
    if len(points) < 2 or (key == "quality" and _alike(points)):
        return []
    note = (
        f"{better} and to the left is better. Coloured points are the Pareto set: no other form is better in latency, "
        "accuracy and size; the large one is recommended."
    )
    return [latency_plot(key, points, label, f"Latency against {label.split(',', maxsplit=1)[0]}", note)]


def _alike(points: list[Point]) -> bool:
    """Whether the forms differ in quality by rounding alone, of which a plot would make mountains."""
    return max(point.y for point in points) - min(point.y for point in points) < _ROUNDING


def speedups(result: Mapping[str, Any]) -> list[Interval]:
    """Return the speed-ups of the fastest candidates, the fastest first."""
    base = baseline_name(result)
    measured = [
        entry
        for _, entry in numbered(result)
        if (entry.get("latency") or {}).get("speedup") and entry.get("form") != base and verdict(entry) != "FAIL"
    ]
    measured.sort(key=lambda entry: as_number(entry["latency"]["speedup"]), reverse=True)
    return [
        interval(str(entry["form"]), entry["latency"], "accent" if entry.get("recommended") else "series-7")
        for entry in measured[:_MOST_SPEEDUPS]
    ]
