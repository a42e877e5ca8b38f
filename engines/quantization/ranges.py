"""Ranges of activations, found by ONNX Runtime's calibrators: one pass over the data serves every way to place QDQ.

The API speaks of TensorRT's four calibrators. ONNX Runtime has calibrators of the same kinds, and NNCF has range
estimators; what each method means with them:

    method             ONNX Runtime                                       NNCF
    ENTROPY_2          histogram of 4096 bins over [-m, m], least          HISTOGRAM: the range of a histogram that
                       Kullback-Leibler divergence at 256 levels           leaves the least quantization error
    ENTROPY            the same with 2048 bins at 128 levels: a coarser    MEAN_MINMAX, its own default: mean over the
                       model of 8 bits, which cuts more of the tail        samples of each one's smallest and largest
    LEGACY_PERCENTILE  histogram of 2048 bins, 99.99 % of |x| inside       MEAN_QUANTILE: mean over the samples of
                                                                           quantiles at 0.01 %
    MINMAX             smallest and largest value                          MINMAX: the same

ENTROPY_2 is what TensorRT's own histogram of 2048 bins over |x| and 128 levels comes to with signs (Migacz, 8-bit
Inference with TensorRT, GTC 2017). ONNX Runtime's default of 128 bins at 128 levels leaves nothing to choose between:
its threshold is the largest value. NNCF has no calibrator by entropy; reports name its estimators for what they are.

Every histogram keeps its number of bins: if a later sample goes beyond the range, the counts are redistributed by the
middles of their bins, while ONNX Runtime would add bins without a bound.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.quantization.thresholds import entropy_threshold, percentile_threshold
from engines.tensors import Array, Arrays

log = logging.getLogger(__name__)

_SMALLEST = 1e-30
"""Values below are counted as zero: they have no histogram in float64."""

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class _Histogram:
    bins: int
    threshold: Callable[[Array, Array], float]


_HISTOGRAMS = {
    "ENTROPY_2": _Histogram(4096, lambda counts, edges: entropy_threshold(counts, edges, levels=256)),
    "ENTROPY": _Histogram(2048, lambda counts, edges: entropy_threshold(counts, edges, levels=128)),
    "LEGACY_PERCENTILE": _Histogram(2048, lambda counts, edges: percentile_threshold(counts, edges, 99.99)),
}


def find_ranges(
    graph: Path, feeds: Iterable[Arrays], method: str, scratch: Path, progress: Callable[[int], None]
) -> Ranges:
    """Return the range of every floating-point tensor that ONNX Runtime can quantize.

    Args:
        graph: The floating-point graph.
        feeds: Calibration feeds; one at a time is in memory with all its activations.
        method: Calibration method of the API.
        scratch: Directory for the graph with its activations as outputs.
        progress: Takes the number of feeds that are done.

    Raises:
        EngineFailure: INVALID_DATA if activations are not finite on this data.
    """
    calibrator = _calibrator(graph, method, scratch / f"calibrated-{method}.onnx")
    for position, feed in enumerate(feeds):
        with contextlib.redirect_stdout(io.StringIO()):
            calibrator.collect_data(_One(feed))
        progress(position + 1)
    ranges = _found(calibrator)
    broken = [name for name, bounds in ranges.items() if not np.isfinite(bounds).all()]
    if broken:
        raise EngineFailure(
            FailureReason.INVALID_DATA,
            f"On the calibration data {len(broken)} values of the graph are not finite, '{broken[0]}' among them.",
            suggested_fix="Compare the data with what the model was trained on: its range, its scale.",
        )
    return ranges


def _found(calibrator: Any) -> Ranges:
    if getattr(calibrator, "collector", None) is not None:
        return {name: counted.range() for name, counted in calibrator.collector.histogram_dict.items()}
    found = calibrator.compute_data().items()
    return {name: (float(np.min(data.range_value[0])), float(np.max(data.range_value[1]))) for name, data in found}


class _One:
    """One feed, as ONNX Runtime's calibrators ask for data."""

    def __init__(self, feed: Arrays) -> None:
        self._feed: Arrays | None = feed

    def get_next(self) -> Arrays | None:
        feed, self._feed = self._feed, None
        return feed


def _calibrator(graph: Path, method: str, augmented: Path) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QDQRegistry, *QLinearOpsRegistry})
    if method == "MINMAX":
        return create_calibrator(graph, operators, augmented, CalibrationMethod.MinMax)
    settings = _HISTOGRAMS[method]
    calibrator = create_calibrator(
        graph, operators, augmented, CalibrationMethod.Entropy, extra_options={"num_bins": settings.bins}
    )
    calibrator.collector = _bounded_collector(settings)
    return calibrator


def _bounded_collector(settings: _Histogram) -> Any:
    from onnxruntime.quantization.calibrate import HistogramCollector

    class Bounded(HistogramCollector):  # type: ignore[misc]
        """ONNX Runtime's collector with a fixed number of bins, and with a quicker search for the threshold."""

        def __init__(self) -> None:
            super().__init__("entropy", False, settings.bins, 0, 0.0, "same")

        def collect(self, name_to_arr: dict[str, list[Array]]) -> None:
            for name, arrays in name_to_arr.items():
                counted = self.histogram_dict.setdefault(name, _Counted(settings))
                for array in arrays:
                    counted.add(array)

    return Bounded()


class _Counted:
    """The histogram of one tensor over [-m, m], m the largest absolute value so far."""

    def __init__(self, settings: _Histogram) -> None:
        self._settings = settings
        self._counts = np.zeros(settings.bins, np.int64)
        self._largest, self._low, self._high = 0.0, np.inf, -np.inf

    def add(self, array: Array) -> None:
        """Count one array's values."""
        if not array.size:
            return
        values = array.astype(np.float64).ravel()
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        largest = float(np.abs(values).max())
        if largest > self._largest:
            middles = (np.arange(len(self._counts)) + 0.5) * (2 * self._largest / len(self._counts)) - self._largest
            self._largest = largest
            self._counts = self._histogram(middles, self._counts)
        self._counts = self._counts + self._histogram(values)

    def range(self) -> tuple[float, float]:
        """Return what the threshold leaves of the values that were seen."""
        bound = self._largest
        if self._counts.any():
            edges = np.linspace(-self._largest, self._largest, len(self._counts) + 1)
            bound = self._settings.threshold(self._counts, edges)
        return max(self._low, -bound), min(self._high, bound)

    def _histogram(self, values: Array, weights: Array | None = None) -> Array:
        if not _SMALLEST < self._largest < np.inf:
            return np.zeros_like(self._counts)
        span = (-self._largest, self._largest)
        return np.histogram(values, len(self._counts), range=span, weights=weights)[0].astype(np.int64)
