"""Times of an evaluation by stage."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from engines.evaluation.report import Histogram, Times

_MOST_BINS = 40
_Result = TypeVar("_Result")


@dataclass
class Clock:
    """Seconds by stage over all passes, and the seconds of each call of the model."""

    preprocess: float = 0.0
    postprocess: float = 0.0
    calls: list[float] = field(default_factory=list)
    samples: int = 0

    def preparing(self, work: Callable[[], _Result]) -> _Result:
        """Do work of preprocessing."""
        start = perf_counter()
        result = work()
        self.preprocess += perf_counter() - start
        return result

    def calling(self, work: Callable[[], _Result]) -> _Result:
        """Do one call of the model."""
        start = perf_counter()
        result = work()
        self.calls.append(perf_counter() - start)
        return result

    def finishing(self, work: Callable[[], _Result]) -> _Result:
        """Do work of postprocessing."""
        start = perf_counter()
        result = work()
        self.postprocess += perf_counter() - start
        return result

    def times(self, batch_size: int, loops: int, threads: int) -> Times:
        """Return means per sample and latencies of calls, in milliseconds."""
        each = 1000 / self.samples
        calls = np.array(self.calls) * 1000
        inference = float(calls.sum()) / self.samples
        total = (self.preprocess + self.postprocess) * each + inference
        counts, edges = np.histogram(calls, bins=min(_MOST_BINS, max(1, len(calls) // 4)))
        p50, p90, p99 = (float(value) for value in np.percentile(calls, (50, 90, 99)))
        return Times(
            total_ms=total,
            preprocess_ms=self.preprocess * each,
            inference_ms=inference,
            postprocess_ms=self.postprocess * each,
            latency_p50_ms=p50,
            latency_p90_ms=p90,
            latency_p99_ms=p99,
            throughput=1000 / total if total else 0.0,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            calls=len(calls),
            batch_size=batch_size,
            loops=loops,
            threads=threads,
            latency_histogram=Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts))),
        )


def to_message(times: Times, form: str) -> dict[str, Any]:
    """Return the JSON form of `lathe.evaluator.v1.EvaluationTimes`; `form` names the measured form."""
    latency = {"median_ms": times.latency_p50_ms, "p90_ms": times.latency_p90_ms, "p99_ms": times.latency_p99_ms}
    return {
        "total_ms": times.total_ms,
        "preprocess_ms": times.preprocess_ms,
        "inference_ms": times.inference_ms,
        "postprocess_ms": times.postprocess_ms,
        "latency": {"form": form, **latency},
        "throughput": times.throughput,
        "peak_memory_bytes": times.peak_memory_bytes,
    }
