"""Which forms are worth a look: those that no other form beats in speed, accuracy and size at once."""

from __future__ import annotations

from collections.abc import Sequence

from engines.search.entry import Entry

_DIGITS = 4
"""Digits of accuracy that count: cosines of floating-point forms differ behind them, and by nothing that matters."""

Figures = tuple[float, float, float]


def mark(entries: Sequence[Entry]) -> None:
    """Set `pareto` of every entry: true where it was measured and no other entry dominates it."""
    figures = {id(entry): _figures(entry) for entry in entries if entry.holds}
    for entry in entries:
        own = figures.get(id(entry))
        entry.pareto = own is not None and not any(dominates(other, own) for other in figures.values())


def dominates(first: Figures, second: Figures) -> bool:
    """Return whether the first is nowhere worse and somewhere better; less is better in each figure."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second


def _figures(entry: Entry) -> Figures:
    """Time relative to the baseline, which holds across runs as milliseconds do not; loss of accuracy; size."""
    assert entry.latency is not None  # it was measured
    accuracy = entry.cosine if entry.accuracy is None else entry.accuracy
    return 1 / entry.latency.speedup, -round(accuracy, _DIGITS), float(entry.size_bytes)
