"""Tables of a profile."""

from __future__ import annotations

from typing import Any

from services.cli.output import Column, note, plain, print_rows
from services.cli.views import size

MOST_LAYERS = 10

MEASUREMENTS: list[Column[Any]] = [
    Column("component", lambda each: plain(each.component), detail=True),
    Column("runtime", lambda each: plain(each.runtime)),
    Column("batch", lambda each: str(each.batch_size), numeric=True),
    Column("threads", lambda each: str(each.threads), numeric=True),
    Column("streams", lambda each: str(each.streams), numeric=True),
    Column("p50 ms", lambda each: _time(each, "median_ms"), numeric=True),
    Column("p90 ms", lambda each: _time(each, "p90_ms"), numeric=True, detail=True),
    Column("p99 ms", lambda each: _time(each, "p99_ms"), numeric=True),
    Column("samples/s", lambda each: f"{each.samples_per_second:.1f}" if _ran(each) else "–", numeric=True),
    Column("memory", lambda each: size(each.memory_bytes) if _ran(each) else "–", numeric=True),
    Column("load ms", lambda each: f"{each.load_time_ms:.1f}" if _ran(each) else "–", numeric=True),
    Column("", lambda each: plain(each.failure.message)),
]
LAYERS: list[Column[Any]] = [
    Column("runtime", lambda each: plain(each.runtime)),
    Column("layer", lambda each: plain(each.name)),
    Column("kind", lambda each: plain(each.operator)),
    Column("ms", lambda each: f"{each.time_ms:.4f}", numeric=True),
    Column("share", lambda each: f"{each.share:.1%}", numeric=True),
]


def show_profile(result: Any) -> None:
    """Print the measurements, the noise, and the slowest layers of each form."""
    print_rows(result.measurements, MEASUREMENTS, title=f"Profile on {result.hardware}")
    for control in result.controls:
        noise = control.latency
        note(
            f"{control.component}, batch {control.batch_size}: the first form against itself {noise.speedup:.2f}× "
            f"({noise.speedup_low:.2f}–{noise.speedup_high:.2f}) in {control.rounds} rounds"
        )
    shown: dict[tuple[str, str, int], list[Any]] = {}
    for layer in result.layers:
        shown.setdefault((layer.component, layer.runtime, layer.streams), []).append(layer)
    for (component, runtime, _), layers in shown.items():
        slowest = sorted(layers, key=lambda each: -each.time_ms)[:MOST_LAYERS]
        print_rows(slowest, LAYERS, title=f"Slowest of {len(layers)} layers of {component} in {runtime}")
    for warning in result.warnings:
        note(f"warning: {warning}", style="yellow")


def fastest(result: Any) -> str:
    """Return the shortest median of a profile and its runtime; empty if it is not there yet."""
    ran = [each for each in result.measurements if _ran(each)]
    best = min(ran, key=lambda each: each.latency.median_ms, default=None)
    return f"{best.runtime} {best.latency.median_ms:.3f} ms" if best is not None else ""


def _ran(measurement: Any) -> bool:
    return bool(measurement.HasField("latency"))


def _time(measurement: Any, field: str) -> str:
    return f"{getattr(measurement.latency, field):.3f}" if _ran(measurement) else "–"
