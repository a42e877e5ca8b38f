"""Names and formatted values of metrics, for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from engines.reports import text
from engines.reports.page import Tile

_NAMES = {
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "precision": "Precision",
    "recall": "Recall",
    "ap": "AP",
    "ap_small": "mAP, small boxes",
    "ap_medium": "mAP, medium boxes",
    "ap_large": "mAP, large boxes",
    "ar_small": "AR, small boxes",
    "ar_medium": "AR, medium boxes",
    "ar_large": "AR, large boxes",
    "ar1": "AR, 1 box",
    "ar10": "AR, 10 boxes",
    "ar100": "AR, 100 boxes",
    "precision_at_1": "Precision at 1",
    "mrr": "Mean reciprocal rank",
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "map": "mAP",
    "f1": "F1",
    "macro_f1": "Macro F1",
}
_PLAIN = ("cosine",)


class Figure(Protocol):
    """A metric with its interval: `MetricValue` of an evaluation, or a delta between two."""

    @property
    def name(self) -> str:
        """Name in the API."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def title(name: str) -> str:
    """Return a metric's display name: `Top-1 accuracy · color` for `top1/color`; unknown names stay as they are."""
    head, _, rest = name.partition("/")
    known = _NAMES.get(head) or _at_threshold(head)
    return f"{known} · {rest}" if rest else known


def _at_threshold(name: str) -> str:
    """Return `AP at IoU 0.5` for `ap50`; any other name stays as it is."""
    found = re.fullmatch(r"(ap|recall)(\d+(?:\.\d+)?)", name)
    if found is None:
        return name
    return f"{_NAMES[found[1]]} at IoU {float(found[2]) / 100:g}"


def value(name: str, number: float | None) -> str:
    """Return a metric's value as a percentage, or as a plain number if it is not a fraction."""
    return text.number(number, 4) if name.startswith(_PLAIN) else text.percent(number, 2)


def short(name: str, number: float) -> str:
    """Return a metric's value for the axis of a chart."""
    return text.number(number, 3) if name.startswith(_PLAIN) else f"{100 * number:.4g}{text.SPACE}%"


def interval(name: str, low: float, high: float) -> str:
    """Return an interval as a range."""
    return f"{value(name, low).removesuffix(f'{text.SPACE}%')} to {value(name, high)}"


def tile(figure: Figure | None, fallback: str = "Accuracy") -> Tile:
    """Return the tile of a metric with its interval."""
    if figure is None:
        return Tile(fallback, text.NONE, "nothing could be evaluated", "muted")
    detail = f"95 % interval {interval(figure.name, figure.low, figure.high)}"
    return Tile(title(figure.name), value(figure.name, figure.value), detail)


def delta(name: str, number: float) -> str:
    """Return a difference of a metric in percentage points, or as a plain number."""
    return text.signed(number, 4) if name.startswith(_PLAIN) else f"{text.points(number)}{text.SPACE}pt"


def delta_interval(name: str, low: float, high: float) -> str:
    """Return the interval of a difference as a range."""
    return f"{delta(name, low).removesuffix(f'{text.SPACE}pt')} to {delta(name, high)}"


def delta_tick(name: str, number: float) -> str:
    """Return a difference for the axis of a chart, without its unit."""
    value = number if name.startswith(_PLAIN) else 100 * number
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "−")


def delta_unit(name: str) -> str:
    """Return the unit of differences."""
    return "cosine" if name.startswith(_PLAIN) else "percentage points"


def conclusion(low: float, high: float) -> str:
    """Return the conclusion from the interval of a difference: `better`, `worse` or `no difference shown`."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def find(figures: Iterable[Figure], name: str) -> Figure | None:
    """Return the first figure of that name; those over all data come first."""
    return next((figure for figure in figures if figure.name == name), None)
