"""Reads the fields of a `lathe.quantizer.v1.QuantizationResult` in its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def as_number(value: Any) -> float:
    """Return a number of a JSON message, which may be a string; NaN where it is absent."""
    return math.nan if value is None else float(value)


def accuracy_of(result: Mapping[str, Any]) -> tuple[float | None, float | None, str]:
    """Return the metric of the source and of the result, None where there is none, and its name."""
    before, after = result.get("source_accuracy"), result.get("accuracy")
    name = str(result.get("metric") or "accuracy")
    return None if before is None else float(before), None if after is None else float(after), name


def form_of_result(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the latency of the result: the last form of the paired measurement, whose first is the source."""
    forms = (result.get("profile") or {}).get("forms", [])
    return forms[-1] if len(forms) > 1 else None
