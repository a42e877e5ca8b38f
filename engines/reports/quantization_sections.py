"""Sections of a quantization's page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from engines.parity.report import Verdict
from engines.reports import charts, matrix_charts, metric_text, text
from engines.reports.charts import Bar, Point
from engines.reports.matrix_charts import Step
from engines.reports.page import Block, Cell, Chart, Section, Table, Tone
from engines.reports.speed import interval, latency_plot, latency_section
from engines.reports.text import as_number

_SENSITIVE = 10
_LISTED_NODES = 50
_NAMED_NODES = 4


def accuracy_of(result: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    """Return the metric of the source and of the result, None if there is none, and its name."""
    before, after = result.get("source_accuracy"), result.get("accuracy")
    name = str(result.get("metric") or "accuracy")
    return None if before is None else float(before), None if after is None else float(after), name


def unseen(result: Mapping[str, Any]) -> bool:
    """Return whether the result was made and not run."""
    return bool((result.get("parity") or {}).get("verdict") == Verdict.UNVERIFIED)


def candidate_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the quantizers that were tried, with their figures or why they failed."""
    candidates = result.get("candidates", [])
    if not candidates:
        return
    metric = accuracy_of(result)[2]
    rows: list[list[str | Cell]] = [
        _candidate_row(number, entry, metric, "bad" if unseen(result) else "good")
        for number, entry in enumerate(candidates, 1)
    ]
    name = metric_text.title(metric) if any(entry.get("accuracy") is not None for entry in candidates) else "accuracy"
    columns = ["", "quantizer", "cosine", "SQNR", name, "latency, p50", "size", "outcome"]
    table = Table("Every way to quantize that was tried", columns, rows, frozenset({1, 7}), wide=True)
    yield Section("Candidates", [*_trade_off(candidates, metric), *_sizes(result, candidates), table])


def _candidate_row(number: int, entry: Mapping[str, Any], metric: str, tone: Tone) -> list[str | Cell]:
    cosine, noise, median = (as_number(entry.get(key) or None) for key in ("cosine", "sqnr_db", "median_ms"))
    accuracy = entry.get("accuracy")
    size = as_number(entry.get("size_bytes") or None)
    chosen = bool(entry.get("chosen"))
    outcome = (
        Cell("chosen", tone, str(entry.get("reason", ""))) if chosen else Cell(str(entry.get("reason") or "not chosen"))
    )
    return [
        str(number),
        Cell(str(entry.get("quantizer", "")), tone if chosen else ""),
        text.number(cosine, 4),
        f"{text.number(noise)}{text.SPACE}dB" if math.isfinite(noise) else text.NONE,
        metric_text.value(metric, None if accuracy is None else float(accuracy)),
        text.milliseconds(median),
        text.NONE if math.isnan(size) else text.size(size),
        outcome,
    ]


def _trade_off(candidates: list[Mapping[str, Any]], metric: str) -> list[Block]:
    """Return latency against accuracy, or the cosine if no accuracy was measured, of two candidates or more."""
    measured = [(n, entry) for n, entry in enumerate(candidates, 1) if as_number(entry.get("median_ms")) > 0]
    judged = [(n, entry) for n, entry in measured if entry.get("accuracy") is not None]
    by_accuracy = len(judged) >= 2
    points = [
        Point(
            str(entry["quantizer"]),
            as_number(entry["median_ms"]),
            100 * as_number(entry["accuracy"]) if by_accuracy else as_number(entry.get("cosine")),
            bool(entry.get("chosen")),
            str(n),
        )
        for n, entry in (judged if by_accuracy else measured)
    ]
    if len(points) < 2:
        return []
    label = f"{metric_text.title(metric)}, %" if by_accuracy else "cosine to the source"
    note = "Up and to the left is better; the large point was chosen. Numbers are those of the table."
    return [latency_plot("candidates", points, label, "What each costs and wins", note)]


def _sizes(result: Mapping[str, Any], candidates: list[Mapping[str, Any]]) -> list[Block]:
    sizes = [("source", as_number(result.get("source_size_bytes") or None), "series-7")]
    for entry in candidates:
        role = "accent" if entry.get("chosen") else "series-7"
        sizes.append((str(entry.get("quantizer", "")), as_number(entry.get("size_bytes") or None), role))
    known = [entry for entry in sizes if entry[1] > 0]
    if len(known) < 2:
        return []
    unit, name = (1 << 20, "MiB") if max(entry[1] for entry in known) >= 1 << 20 else (1 << 10, "KiB")
    bars = [Bar(title, amount / unit, text.size(amount), role) for title, amount, role in known]
    words = ", ".join(f"{bar.name} {bar.tip}" for bar in bars)
    chart = charts.bars("sizes", f"Size of weights: {words}", bars, name, text.number, tick="{:g}".format)
    return [Chart(chart, "Size of weights")]


def ladder_section(result: Mapping[str, Any], max_degradation: float | None) -> Iterator[Section]:
    """Yield the rungs that accuracy control climbed."""
    rungs, (before, _, metric) = result.get("ladder", []), accuracy_of(result)
    if not rungs:
        return
    steps = [_step(rung) for rung in rungs]
    bound = before - max_degradation / 100 if before is not None and max_degradation is not None else None
    words = "; ".join(
        f"{step.kept} nodes: {metric_text.value(metric, step.accuracy)}, {text.milliseconds(step.median_ms)}"
        for step in steps
    )
    chart = matrix_charts.ladder("ladder", f"Accuracy control. {words}", steps, metric_text.title(metric), bound)
    rows: list[list[str | Cell]] = [
        [
            str(place),
            Cell(f"{step.kept:,}", detail=_node_names(rung)),
            _held(metric, step.accuracy, bound),
            text.milliseconds(step.median_ms),
        ]
        for place, (step, rung) in enumerate(zip(steps, rungs, strict=True), start=1)
    ]
    columns = ["rung", "nodes kept in floating point", metric_text.title(metric), "latency, p50"]
    table = Table("Rungs, in the order climbed", columns, rows, frozenset({1}))
    intro = "Nodes that cost most were left in floating point until the bound held." if bound is not None else ""
    yield Section("Accuracy control", [Chart(chart, "What keeping nodes in floating point does"), table], intro)


def _step(rung: Mapping[str, Any]) -> Step:
    kept = len(rung.get("floating_point_nodes", []))
    return Step(kept, as_number(rung.get("accuracy")), as_number(rung.get("median_ms")))


def _node_names(rung: Mapping[str, Any]) -> str:
    nodes = [str(node) for node in rung.get("floating_point_nodes", [])]
    more = f" and {len(nodes) - _NAMED_NODES:,} more" if len(nodes) > _NAMED_NODES else ""
    return ", ".join(nodes[:_NAMED_NODES]) + more


def _held(metric: str, accuracy: float, bound: float | None) -> Cell:
    tone: Tone = "" if bound is None else ("good" if accuracy >= bound - 1e-9 else "bad")
    return Cell(metric_text.value(metric, accuracy), tone)


def speed_of_result(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the paired latencies of the source and the result beside the A/A control."""
    forms = (result.get("profile") or {}).get("forms", [])[1:]
    if forms:
        yield from latency_section(result, [interval(str(form["form"]), form, "accent") for form in forms])


def sensitivity_section(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the nodes whose quantization costs most."""
    nodes = result.get("sensitivities", [])
    if not nodes:
        return
    ranked = sorted(nodes, key=lambda node: as_number(node.get("sqnr_db")))
    bars = [Bar(str(node["node"]), max(0.0, as_number(node.get("sqnr_db"))),
                f"{node['node']} ({node.get('operator', '')}): {text.number(as_number(node.get('sqnr_db')))} dB")
            for node in ranked[:_SENSITIVE]]  # fmt: skip
    label = f"SQNR of the {len(bars)} most sensitive nodes: " + ", ".join(
        f"{bar.name} {text.number(bar.value)} dB" for bar in bars
    )
    chart = charts.bars(
        "sensitive", label, bars, "SQNR, dB: shorter is more sensitive", text.number, tick="{:g}".format
    )
    rows = [
        [
            str(node["node"]),
            str(node.get("operator", "")),
            f"{text.number(as_number(node.get('sqnr_db')))}{text.SPACE}dB",
        ]
        for node in ranked[:_LISTED_NODES]
    ]
    note = f"The first {_LISTED_NODES} of {len(ranked):,} quantized nodes." if len(ranked) > _LISTED_NODES else ""
    table = Table(
        "Quantized nodes, the most sensitive first", ["node", "operator", "SQNR"], rows, frozenset({0, 1}), note
    )
    yield Section("Sensitivity", [Chart(chart, f"The {len(bars)} most sensitive nodes"), table])
