"""The result of an optimization as the API has it, over all components."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.formats import format_of
from engines.optimization.request import OptimizationRequest
from engines.package.content import PackagedComponent
from engines.runtimes import runtime_packages
from engines.search.entry import Entry
from engines.search.search import SearchResult
from engines.spec.toolchain import hardware, software
from engines.tensors.samples import Samples, SampleSource
from engines.tensors.shapes import format_shape

_SOFTWARE = ("lathe", "nncf", "numpy", "onnx", "onnxscript")
SOURCE_NOTE = "the source form, the baseline"


@dataclass(frozen=True)
class OptimizedComponent:
    """A component whose best form is in the package.

    Attributes:
        packaged: Its entry in the package.
        found: The result of the search.
        samples: The samples that it was tested on.
        metric: Name of the dataset's metric; empty if there is no dataset.
        source_accuracy: That metric of the source.
        quantizer: The quantizer of the recommended form, in words; empty if it is not quantized.
        floating_point_nodes: Nodes of a quantized form that stayed in floating point.
        warnings: Warnings for the user.
    """

    packaged: PackagedComponent
    found: SearchResult
    samples: Samples
    metric: str = ""
    source_accuracy: float | None = None
    quantizer: str = ""
    floating_point_nodes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def result_fields(work: OptimizationRequest, done: Sequence[OptimizedComponent]) -> dict[str, Any]:
    """Return `lathe.optimizer.v1.OptimizationResult` without the fields that name resources and digests.

    Of a model of several components, times are sums over one call of each, candidates are named `component/form`, and
    the paired measurement is that of the first; the package's `report.json` has them all.
    """
    several = len(done) > 1
    no_gain = all(entry.found.no_gain for entry in done)
    reasons = [_reason(entry, several) for entry in done if entry.found.no_gain]
    values: dict[str, Any] = {
        "software": software(
            (*_SOFTWARE, *runtime_packages(), *format_of(work.conversion.template.source_format).packages)
        ),
        "hardware_environment": {
            "device_type": work.conversion.template.device,
            "microarchitecture": hardware(),
        },
        "test_data_info": test_data_info(done),
        "optimization_result": figures(done, work.spec.aim),
        "candidates": [row for entry in done for row in _candidates(entry, several)],
        "no_gain": no_gain,
        "profile": done[0].found.profile.to_dict(),
        "warnings": list(dict.fromkeys(words for entry in done for words in entry.warnings)),
        "no_gain_reason": " ".join(reasons) if no_gain else "",
    }
    if done[0].source_accuracy is not None:
        values |= {"source_accuracy": done[0].source_accuracy, "metric": done[0].metric}
    return values


def figures(done: Sequence[OptimizedComponent], aim: str) -> dict[str, float]:
    """Return the main figures.

    The speed-up of one component is the median of its paired ratios, of several the ratio of the sums of their times.
    Calls per second are those of calls one after the other; if throughput is the objective, of as many at once as
    the form has streams.
    """
    before = sum(_baseline_ms(entry.found) for entry in done)
    after = sum(_recommended_ms(entry.found) for entry in done)
    speedup = before / after if after else 1.0
    if len(done) == 1:
        latency = done[0].found.recommended.latency
        speedup = 1.0 if done[0].found.no_gain or latency is None else latency.speedup
    qps = [1000 / time if time else 0.0 for time in (before, after)]
    if aim == "THROUGHPUT" and len(done) == 1:
        batch = max(1, done[0].found.profile.batch_size)
        loaded = [entry.samples_per_second / batch for entry in (done[0].found.baseline, done[0].found.recommended)]
        qps = loaded if all(loaded) else qps
    return {
        "baseline_time_ms": before,
        "optimized_time_ms": after,
        "baseline_qps": qps[0],
        "optimized_qps": qps[1],
        "speedup": speedup,
    }


def test_data_info(done: Sequence[OptimizedComponent]) -> dict[str, str]:
    """Return what the candidates were tested on: each input's shapes and element type, `name: 1*3*4, 8*3*4`."""
    several, shapes, types = len(done) > 1, [], []
    for entry in done:
        feeds = entry.samples.feeds
        for name, array in feeds[0].items():
            full = f"{entry.packaged.component.name}/{name}" if several else name
            shapes.append(f"{full}: {_distinct(format_shape(feed[name].shape) for feed in feeds)}")
            types.append(f"{full}: {array.dtype}")
    sources = {entry.samples.source for entry in done}
    return {
        "test_data_source": (sources.pop() if len(sources) == 1 else SampleSource.MIXED).value,
        "test_data_shape": "; ".join(shapes),
        "test_data_type": "; ".join(types),
    }


def _candidates(entry: OptimizedComponent, several: bool) -> list[dict[str, Any]]:
    found = entry.found
    return [_candidate(row, entry, several) for row in (found.baseline, *found.entries)]


def _candidate(row: Entry, entry: OptimizedComponent, several: bool) -> dict[str, Any]:
    values = row.to_dict()
    values["form"] = f"{_prefix(entry, several)}{values['form']}"
    if row is entry.found.baseline:
        values["note"] = row.note or SOURCE_NOTE
    if row.latency:
        values["latency"] = dataclasses.replace(row.latency, form=values["form"]).to_dict()
    return values


def _reason(entry: OptimizedComponent, several: bool) -> str:
    reason = entry.found.no_gain_reason
    return f"{entry.packaged.component.name}: {reason}" if several else reason


def _prefix(entry: OptimizedComponent, several: bool) -> str:
    return f"{entry.packaged.component.name}/" if several else ""


def _baseline_ms(found: SearchResult) -> float:
    return found.profile.forms[0].median_ms


def _recommended_ms(found: SearchResult) -> float:
    """Return the median of the recommended form, from the last paired measurement."""
    name = found.recommended.spec.name
    latency = next((form for form in found.profile.forms[1:] if form.form == name), None)
    return latency.median_ms if latency and not found.no_gain else _baseline_ms(found)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
