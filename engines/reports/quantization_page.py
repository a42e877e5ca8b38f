"""The report of a quantization as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engines.quantization.coverage import Coverage
from engines.reports import metric_text, text
from engines.reports.page import Facts, Notes, Page, Section, Tile, Tone, render
from engines.reports.parity_section import parity_section, verdict_note
from engines.reports.quantization_sections import (
    accuracy_of,
    candidate_section,
    ladder_section,
    sensitivity_section,
    speed_of_result,
    unseen,
)
from engines.reports.text import as_number


def quantization_html(
    result: Mapping[str, Any],
    *,
    title: str = "Quantized model",
    subtitle: str = "",
    max_degradation: float | None = None,
) -> str:
    """Return the report of a quantization as one self-contained HTML file.

    Args:
        result: Fields of `lathe.quantizer.v1.QuantizationResult`, named as in the proto; numbers may be JSON strings,
            as protobuf writes 64-bit integers and what is not finite.
        title: Name of the model.
        subtitle: Precision, scheme, runtime and device in a line.
        max_degradation: The bound on lost accuracy that was asked for, in points.
    """
    words, tone = verdict(result, max_degradation)
    return render(
        Page(
            kind="Quantization",
            title=title,
            subtitle=subtitle,
            verdict=words,
            tone=tone,
            tiles=_tiles(result),
            sections=list(_sections(result, max_degradation)),
            small_print=_small_print(result),
        )
    )


def verdict(result: Mapping[str, Any], max_degradation: float | None = None) -> tuple[str, Tone]:
    """Return the gain and the cost of the quantization in words, and whether that is good."""
    parts: list[str] = []
    tone: Tone = "good"
    if result.get("bound_held") is False:
        bound = "the bound" if max_degradation is None else f"the bound of {text.number(max_degradation)} points"
        parts.append(f"No form holds {bound}: this is the best that was found.")
        tone = "bad"
    if result.get("no_gain_reason"):
        parts.append(f"No gain on this device: {_sentence(str(result['no_gain_reason']))}")
        tone = _worse(tone, "warn")
    else:
        parts.append(_gain(result))
    before, after, metric = accuracy_of(result)
    if before is not None and after is not None:
        parts.append(f"{metric_text.title(metric)} went from {metric_text.value(metric, before)} to "
                     f"{metric_text.value(metric, after)} ({metric_text.delta(metric, after - before)}).")  # fmt: skip
    parity = result.get("parity") or {}
    note, noted = verdict_note(parity)
    parts.append(note)
    if not parity.get("waiver"):
        tone = _worse(tone, noted)
    return " ".join(part for part in parts if part), tone


def _form_of_result(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the latency of the result: the last form of the paired measurement, whose first is the source."""
    forms = (result.get("profile") or {}).get("forms", [])
    return forms[-1] if len(forms) > 1 else None


def _worse(one: Tone, other: Tone) -> Tone:
    return max(one, other, key=("good", "warn", "bad").index)


def _gain(result: Mapping[str, Any]) -> str:
    form = _form_of_result(result)
    smaller = _ratio(result)
    size = f"{text.number(smaller)} times smaller" if smaller and smaller > 1.005 else ""
    if form is None:
        return f"Weights are {size}." if size else ""
    faster = f"{as_number(form.get('speedup')):.2f} times as fast as the source"
    return f"{faster}, and {size}." if size else f"{faster}."


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _ratio(result: Mapping[str, Any]) -> float | None:
    before, after = as_number(result.get("source_size_bytes")), as_number(result.get("size_bytes"))
    return before / after if before > 0 and after > 0 else None


def _tiles(result: Mapping[str, Any]) -> list[Tile]:
    tiles = []
    before, after, metric = accuracy_of(result)
    if after is not None:
        lost = (
            f"{metric_text.delta(metric, after - before)} from {metric_text.value(metric, before)}"
            if before is not None
            else ""
        )
        held = result.get("bound_held")
        tone: Tone = "" if held is None else ("good" if held else "bad")
        tiles.append(Tile(metric_text.title(metric), metric_text.value(metric, after), lost, tone))
    outputs = (result.get("parity") or {}).get("outputs", [])
    if outputs:
        least = min(as_number(output.get("cosine")) for output in outputs)
        noise = min(as_number(output.get("sqnr_db")) for output in outputs)
        tiles.append(
            Tile(
                "Cosine to the source", text.number(least, 4), f"SQNR {text.number(noise)}{text.SPACE}dB, worst output"
            )
        )
    form = _form_of_result(result)
    if form is not None:
        low, high = as_number(form.get("speedup_low")), as_number(form.get("speedup_high"))
        tone = "warn" if result.get("no_gain_reason") else "good"
        tiles.append(
            Tile("Speed-up", f"{as_number(form.get('speedup')):.2f}×", f"95 % interval {low:.2f} to {high:.2f}", tone)
        )
        quantiles = f"p99 {text.milliseconds(as_number(form.get('p99_ms')))}"
        tiles.append(Tile("Latency, p50", text.milliseconds(as_number(form.get("median_ms"))), quantiles))
    smaller = _ratio(result)
    if smaller:
        times = f"{text.number(smaller)}× smaller" if smaller >= 1 else f"{text.number(1 / smaller)}× larger"
        was = f"{times} than {text.size(as_number(result.get('source_size_bytes')))}"
        tiles.append(Tile("Size of weights", text.size(as_number(result.get("size_bytes"))), was))
    return tiles


def _sections(result: Mapping[str, Any], max_degradation: float | None) -> Iterator[Section]:
    if result.get("warnings"):
        yield Section("Warnings", [Notes([str(line) for line in result["warnings"]], "warn")])
    yield from candidate_section(result)
    yield from ladder_section(result, max_degradation)
    yield from speed_of_result(result)
    yield from sensitivity_section(result)
    yield from parity_section(result.get("parity") or {})
    run_by = [("hardware", str(result.get("hardware") or text.NONE))]
    run_by += [(str(entry["name"]), str(entry["version"])) for entry in result.get("software", [])]
    sizes = [*_in_integers(result.get("coverage") or {})]
    sizes += [
        ("source", text.size(as_number(result.get("source_size_bytes")))),
        ("result", text.size(as_number(result.get("size_bytes")))),
    ]
    yield Section(
        "Size, software and hardware",
        [Facts("Weights", sizes), Facts("Made by" if unseen(result) else "Run by", run_by)],
    )


def _in_integers(coverage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = Coverage(**{name: int(value) for name, value in coverage.items()})
    if found.products:
        yield "in integers", str(found)


def _small_print(result: Mapping[str, Any]) -> list[str]:
    profile = result.get("profile") or {}
    lines = [
        "SQNR is the power of the source's output over the power of the difference, in decibels: 20 dB is an error of "
        "a tenth, 40 dB of a hundredth. A node's own SQNR is measured at its output.",
        "The result was made and not run: its runtime computes on the device alone. The figures of nodes are those of "
        "the quantized graph on the machine that made it."
        if unseen(result)
        else "Every candidate was run in the runtime that will serve the result; a quantizer that is right for one "
        "runtime can be wrong for another.",
    ]
    if profile:
        lines.append(
            f"Latency is from {as_number(profile.get('rounds')):.0f} rounds in which the source and the result took "
            "turns in random order, each in a process of its own. The source took part twice: its speed-up over "
            "itself, the A/A control, shows the noise. A speed-up within that noise is not a gain."
        )
    return lines
