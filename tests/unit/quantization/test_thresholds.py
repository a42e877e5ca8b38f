"""Thresholds of histograms: where they cut, against ONNX Runtime's own search and by their meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.quantization.thresholds import entropy_threshold, percentile_threshold
from engines.tensors import Array


def histogram(values: Array, bins: int) -> tuple[Array, Array]:
    most = float(np.abs(values).max())
    return np.histogram(values, bins, range=(-most, most))


def test_outliers_are_cut_and_uniform_values_are_not() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(-1, 1, 100_000)
    assert entropy_threshold(*histogram(spread, 4096), levels=256) > 0.95
    outlier = np.append(rng.standard_normal(100_000), 100.0)
    assert entropy_threshold(*histogram(outlier, 4096), levels=256) < 20
    assert 3 < percentile_threshold(*histogram(outlier, 2048), 99.99) < 5


def test_the_search_agrees_with_onnxruntimes() -> None:
    from onnxruntime.quantization.calibrate import HistogramCollector

    values = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    counts, edges = histogram(values, 512)
    collector = HistogramCollector("entropy", False, 512, 128, 0.0, "same")
    low, high = values.min(), values.max()
    theirs = collector.get_entropy_threshold((counts, edges, low, high, np.abs(values).max()), 128)
    ours = entropy_threshold(counts, edges, levels=128)
    assert ours == pytest.approx(float(max(-theirs[0], theirs[1])), rel=0.15)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(1e-20, 1e20), st.sampled_from([128, 256]))
def test_a_threshold_lies_inside_the_range(seed: int, scale: float, levels: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, 500) * scale
    counts, edges = histogram(values, 1024)
    for threshold in (entropy_threshold(counts, edges, levels), percentile_threshold(counts, edges, 99.9)):
        assert 0 < threshold <= edges[-1]
