"""The report of an optimization as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from engines.reports import metric_text, text
from engines.reports.optimization_sections import (
    candidate_section,
    figures_section,
    speedups,
)
from engines.reports.optimization_values import cosine, memory_bytes, recommended, size_bytes, size_in_words
from engines.reports.page import Notes, Page, Section, Tile, Tone, render
from engines.reports.parity_section import parity_section, verdict_note
from engines.reports.speed import latency_section
from engines.reports.text import as_number


def optimization_html(result: Mapping[str, Any], *, title: str = "Optimized model", subtitle: str = "") -> str:
    """Return the report of an optimization as one self-contained HTML file.

    Args:
        result: Fields of `lathe.optimizer.v1.OptimizationResult`, named as in the proto; numbers may be JSON strings,
            as protobuf writes 64-bit integers and what is not finite.
        title: Name of the model.
        subtitle: Goal, objective and device in a line.
    """
    words, tone = verdict(result)
    return render(
        Page(
            kind="Optimization",
            title=title,
            subtitle=subtitle,
            verdict=words,
            tone=tone,
            tiles=_tiles(result),
            sections=list(_sections(result)),
            small_print=_small_print(result),
        )
    )


def verdict(result: Mapping[str, Any]) -> tuple[str, Tone]:
    """Return what the search found, in words, and whether that is good."""
    figures = result.get("optimization_result") or {}
    if result.get("no_gain"):
        reason = str(result.get("no_gain_reason") or "no form beats the source by more than noise")
        return f"No gain: {reason.rstrip('.')}. The package holds the source form.", "warn"
    best = recommended(result)
    form = str(best["form"]) if best else "The recommended form"
    before, after = (
        text.milliseconds(as_number(figures.get(key))) for key in ("baseline_time_ms", "optimized_time_ms")
    )
    words = (
        f"{form} is {as_number(figures.get('speedup')):.2f} times as fast as the source: {after} instead of {before}."
    )
    words = f"{words} {size_in_words(result)}".strip()
    source, accuracy = result.get("source_accuracy"), (best or {}).get("accuracy")
    if source is not None and accuracy is not None:
        metric = str(result.get("metric") or "accuracy")
        words += (
            f" {metric_text.title(metric)} went from {metric_text.value(metric, float(source))} to "
            f"{metric_text.value(metric, float(accuracy))}."
        )
    parity = (best or {}).get("parity") or {}
    note, tone = verdict_note(parity)
    return f"{words} {note}".rstrip(), "good" if parity.get("waiver") else tone


def _tiles(result: Mapping[str, Any]) -> list[Tile]:
    figures, best = result.get("optimization_result") or {}, recommended(result) or {}
    latency = best.get("latency") or {}
    no_gain = bool(result.get("no_gain"))
    interval = ""
    if latency.get("speedup_low") and not no_gain:
        low, high = as_number(latency["speedup_low"]), as_number(latency.get("speedup_high"))
        interval = f"95 % interval {low:.2f} to {high:.2f}"
    before = text.milliseconds(as_number(figures.get("baseline_time_ms")))
    was = text.number(as_number(figures.get("baseline_qps")), 4)
    tiles = [
        Tile("Speed-up", f"{as_number(figures.get('speedup')):.2f}×", interval, "warn" if no_gain else "good"),
        Tile("Latency, p50", text.milliseconds(as_number(figures.get("optimized_time_ms"))), f"source {before}"),
        Tile("Calls per second", text.number(as_number(figures.get("optimized_qps")), 4), f"source {was}"),
    ]
    source, accuracy = result.get("source_accuracy"), best.get("accuracy")
    metric = str(result.get("metric") or "accuracy")
    if accuracy is not None:
        lost = f"source {metric_text.value(metric, float(source))}" if source is not None else ""
        tiles.append(Tile(metric_text.title(metric), metric_text.value(metric, float(accuracy)), lost))
    if not math.isnan(cosine(best)):
        tiles.append(Tile("Cosine to the source", text.number(cosine(best), 5), "worst output"))
    if not math.isnan(size_bytes(best)):
        memory = memory_bytes(best)
        detail = "" if math.isnan(memory) else f"{text.size(memory)} in memory"
        tiles.append(Tile("Size", text.size(size_bytes(best)), detail))
    return tiles


def _sections(result: Mapping[str, Any]) -> Iterator[Section]:
    if result.get("warnings"):
        yield Section("Warnings", [Notes([str(line) for line in result["warnings"]], "warn")])
    yield from figures_section(result)
    yield from candidate_section(result)
    yield from latency_section(result, speedups(result))
    yield from parity_section((recommended(result) or {}).get("parity") or {})


def _small_print(result: Mapping[str, Any]) -> list[str]:
    profile = result.get("profile") or {}
    lines = [
        "Parity came first: a form that does not compute what the source computes is excluded, whatever its speed. In "
        "FP32, FP16 and BF16 the largest relative error counts, in integers the cosine; FP32 has to be a PASS.",
        "Every form ran in a process of its own, one at a time, with the same inputs and the same number of threads, "
        "unless its name states another. Forms that could no longer win were eliminated after each round; the others "
        "were measured longer. A tie goes to the simpler form.",
    ]
    if profile:
        lines.append(
            f"The last measurement is from {as_number(profile.get('rounds')):.0f} rounds in which the source and the "
            "recommended form took turns in random order. The source took part twice: its speed-up over itself, the "
            "A/A control, shows the noise. A speed-up within that noise is not a gain."
        )
    return lines
