"""Where to cut a distribution so that 8 bits hold it best: thresholds from a histogram over [-m, m]."""

from __future__ import annotations

import numpy as np

from engines.tensors import Array

STRIDE = 8
"""Bins by which one candidate of a threshold is larger than the one before: under half a per cent of the range."""


def entropy_threshold(counts: Array, edges: Array, levels: int) -> float:
    """Return the threshold under which quantizing loses the least information.

    For each threshold the tail is added to the outermost bins, which gives P; the bins inside are merged into `levels`
    groups and spread again over those bins of a group that are not empty, which gives Q; the least Kullback-Leibler
    divergence of Q from P wins (Migacz, 8-bit Inference with TensorRT, GTC 2017). If counts are few, the largest value.

    Args:
        counts: Histogram, an even number of bins, zero in the middle.
        edges: Edges of its bins.
        levels: Quantization levels over both signs.
    """
    middle = len(counts) // 2
    best, threshold = np.inf, float(edges[-1])
    total = counts.sum()
    for half in range(middle, levels // 2 - 1, -STRIDE):
        inside = counts[middle - half : middle + half].astype(np.float64)
        reference = inside.copy()
        reference[0] += counts[: middle - half].sum()
        reference[-1] += counts[middle + half :].sum()
        divergence = _divergence(reference / total, _quantized(inside, reference > 0, levels))
        if divergence < best:
            best, threshold = divergence, float(edges[middle + half])
    return threshold


def percentile_threshold(counts: Array, edges: Array, percent: float) -> float:
    """Return the smallest edge between whose negative and itself lies this part of all values."""
    middle = len(counts) // 2
    folded = counts[middle:] + counts[:middle][::-1]
    part = np.cumsum(folded) / folded.sum()
    return float(edges[middle + 1 + int(np.searchsorted(part, percent / 100))])


def _quantized(inside: Array, filled: Array, levels: int) -> Array:
    starts = np.arange(levels) * (len(inside) // levels)
    sums, widths = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(np.float64), starts)
    group = np.minimum(np.arange(len(inside)) // (len(inside) // levels), levels - 1)
    spread = np.divide(sums, widths, out=np.zeros(levels), where=widths > 0)[group] * filled
    total = spread.sum()
    return spread / total if total else spread


def _divergence(reference: Array, quantized: Array) -> float:
    """Return sum p log(p/q), with a small share of Q for bins that are empty in Q alone."""
    present = reference > 0
    share = np.maximum(quantized[present], 1e-8)
    return float(np.sum(reference[present] * np.log(reference[present] / share)))
