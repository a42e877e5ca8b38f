"""The result of a profile as the API has it, over all components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.profiling.feeds import Feeds
from engines.profiling.measuring import BatchProfile, Measurement
from engines.runtimes import runtime_packages
from engines.spec.toolchain import hardware, software
from engines.tensors.shapes import format_shape

MOST_LAYERS = 2000
"""Most layers in the result, which must fit into a message; `profile.json` has all."""

_SOFTWARE = ("lathe", "numpy")


@dataclass(frozen=True)
class ProfiledComponent:
    """A component whose forms were measured.

    Attributes:
        component: Its name.
        feeds: What it was measured on.
        batches: The measurements of each batch.
        warnings: Warnings for the user.
    """

    component: str
    feeds: Feeds
    batches: Sequence[BatchProfile]
    warnings: Sequence[str]

    @property
    def measurements(self) -> list[Measurement]:
        """Every measurement, in order."""
        return [row for batch in self.batches for row in batch.measurements]


def result_fields(done: Sequence[ProfiledComponent], device: str) -> dict[str, Any]:
    """Return `lathe.optimizer.v1.ProfileResult` without the digests of the reports, with every layer."""
    return {
        "measurements": [_measurement(entry, row) for entry in done for row in entry.measurements],
        "controls": [
            {"component": entry.component, "batch_size": batch.measurements[0].batch, "rounds": batch.rounds}
            | {"latency": batch.control.to_dict()}
            for entry in done
            for batch in entry.batches
            if batch.control is not None
        ],
        "layers": [
            _layer(entry, row, number)
            for entry in done
            for row in entry.measurements
            for number in range(len(row.layers))
        ],
        "device": device,
        "hardware": hardware(),
        "software": software((*_SOFTWARE, *runtime_packages())),
        "warnings": list(dict.fromkeys(words for entry in done for words in entry.warnings)),
    }


def most_costly(values: dict[str, Any]) -> dict[str, Any]:
    """Return the result with at most `MOST_LAYERS` layers, those that take most, in their order."""
    layers = values["layers"]
    if len(layers) <= MOST_LAYERS:
        return values
    order = sorted(range(len(layers)), key=lambda number: -layers[number]["time_ms"])[:MOST_LAYERS]
    words = f"{len(layers) - MOST_LAYERS} layers that take little time are only in the report."
    return values | {"layers": [layers[number] for number in sorted(order)], "warnings": [*values["warnings"], words]}


def _measurement(entry: ProfiledComponent, row: Measurement) -> dict[str, Any]:
    spec = row.form.spec
    values: dict[str, Any] = {
        "component": entry.component,
        "runtime": spec.runtime,
        "precision": spec.precision,
        "batch_size": row.batch,
        "threads": row.threads,
        "streams": row.streams,
        "size_bytes": row.size_bytes,
        "build_time_ms": row.form.build_seconds * 1e3,
    }
    if row.failure is not None:
        return values | {"failure": row.failure.to_dict()}
    assert row.latency is not None  # it was measured
    feed = entry.feeds.at(row.batch)
    return values | {
        "latency": row.latency.to_dict(),
        "samples_per_second": row.samples_per_second,
        "memory_bytes": row.memory_bytes,
        "load_time_ms": row.load_ms,
        "first_call_ms": row.first_call_ms,
        "input_shapes": "; ".join(f"{name}: {format_shape(array.shape)}" for name, array in feed.items()),
        "sample_source": entry.feeds.source.value,
    }


def _layer(entry: ProfiledComponent, row: Measurement, number: int) -> dict[str, Any]:
    layer, total = row.layers[number], sum(each.milliseconds for each in row.layers)
    return {
        "component": entry.component,
        "runtime": row.form.spec.runtime,
        "batch_size": row.batch,
        "threads": row.threads,
        "streams": row.streams,
        "name": layer.name,
        "operator": layer.operator,
        "kernel": layer.kernel,
        "time_ms": layer.milliseconds,
        "share": layer.milliseconds / total if total else 0.0,
    }
