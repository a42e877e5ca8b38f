"""Bounds that a channel sets for figures of evaluations."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationResult
from lathe.registry.v1.release_service_pb2 import MetricBound

_LISTED = 5


def figures(result: EvaluationResult) -> dict[tuple[str, str], float]:
    """Return every figure of an evaluation by (metric, slice); times count as metrics of all data."""
    found = {(metric.name, metric.slice): metric.value for metric in result.metrics}
    if result.HasField("times"):
        times = result.times
        found |= {("throughput", ""): times.throughput, ("peak_memory_bytes", ""): float(times.peak_memory_bytes)}
        if times.HasField("latency"):
            latency = times.latency
            percentiles = {"p50": latency.median_ms, "p90": latency.p90_ms, "p99": latency.p99_ms}
            found |= {(f"latency_{name}_ms", ""): value for name, value in percentiles.items()}
    return found


def judge(bound: MetricBound, known: Mapping[tuple[str, str], float]) -> tuple[bool, str]:
    """Return whether figures keep a bound, and a sentence about it."""
    value = known.get((bound.metric, bound.slice))
    if value is None:
        return False, f"{asked_of(bound)}; {_absent(bound, known)}."
    # NaN keeps no bound: every comparison with it is false.
    kept = (not bound.HasField("min") or value >= bound.min) and (not bound.HasField("max") or value <= bound.max)
    kept = kept and not math.isnan(value)
    return kept, f"{asked_of(bound)}; it is {value:.6g}."


def asked_of(bound: MetricBound) -> str:
    """Return what a bound asks, as the beginning of a sentence."""
    where = f" of {bound.slice}" if bound.slice else ""
    ends = [f"at least {bound.min:.6g}"] if bound.HasField("min") else []
    ends += [f"at most {bound.max:.6g}"] if bound.HasField("max") else []
    return f"'{bound.metric}'{where} has to be {' and '.join(ends)}"


def _absent(bound: MetricBound, known: Mapping[tuple[str, str], float]) -> str:
    slices = sorted({part for _, part in known if part})
    inside = sorted(name for name, part in known if part == bound.slice)
    if bound.slice and not inside:
        return f"the evaluation has no slice '{bound.slice}', it has {_some(slices, bound.slice)}"
    return f"the evaluation has no such figure, it has {_some(inside, bound.metric)}"


def _some(names: list[str], like: str) -> str:
    close = difflib.get_close_matches(like, names, _LISTED, cutoff=0.4)
    shown = [*close, *(name for name in names if name not in close)][:_LISTED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(shown) + more) or "none"
