"""What a result says of itself: whether it computes what its source computes, and whether it is faster."""

from __future__ import annotations

from typing import Any

from services.cli.views import enum_name


def parities(result: Any) -> list[tuple[str, Any]]:
    """Return the parity reports of what a task made, by component or form; empty names if there is only one."""
    fields = result.DESCRIPTOR.fields_by_name
    if "components" in fields:
        return [(each.component, each.parity) for each in result.components]
    if "candidates" in fields and "parity" in fields["candidates"].message_type.fields_by_name:
        return [(each.form, each.parity) for each in result.candidates if each.recommended]
    return [("", result.parity)] if "parity" in fields else []


def has_no_gain(result: Any) -> bool:
    """Return whether an optimization or a quantization found nothing that is faster than its source beyond noise."""
    return bool(result.no_gain_reason or getattr(result, "no_gain", False))


def unaccepted(result: Any) -> bool:
    """Return whether a parity verdict of what a task made is not PASS, and nobody accepted it by name."""
    return any(enum_name(report, "verdict") in ("WARN", "FAIL") and not report.waiver for _, report in parities(result))


def asked_for(report: Any) -> str:
    """Return what outputs have to be for a PASS."""
    by_cosine = enum_name(report, "measure") == "COSINE"
    return f"cosine ≥ {1 - report.threshold:g}" if by_cosine else f"max rel ≤ {report.threshold:g}"
