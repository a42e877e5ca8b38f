"""Verdicts of a result: its parity with the source, and its gain."""

from __future__ import annotations

from typing import Any

from services.cli.views import enum_name


def parities(result: Any) -> list[tuple[str, Any]]:
    """Return the parity reports of a task's result by component or form; the name is empty if there is only one."""
    fields = result.DESCRIPTOR.fields_by_name
    if "components" in fields:
        return [(each.component, each.parity) for each in result.components]
    if "candidates" in fields and "parity" in fields["candidates"].message_type.fields_by_name:
        return [(each.form, each.parity) for each in result.candidates if each.recommended]
    return [("", result.parity)] if "parity" in fields else []


def has_no_gain(result: Any) -> bool:
    """Return whether an optimization or quantization found nothing faster than its source beyond noise."""
    return bool(result.no_gain_reason or getattr(result, "no_gain", False))


def unaccepted(result: Any) -> bool:
    """Return whether a task's result has a parity verdict other than PASS that was not accepted."""
    return any(enum_name(report, "verdict") in ("WARN", "FAIL") and not report.waiver for _, report in parities(result))


def unverified(result: Any) -> bool:
    """Return whether a form of a task's result never ran, so that nothing is known of what it computes."""
    return any(enum_name(report, "verdict") == "UNVERIFIED" for _, report in parities(result))


def asked_for(report: Any) -> str:
    """Return the condition for a PASS."""
    by_cosine = enum_name(report, "measure") == "COSINE"
    return f"cosine ≥ {1 - report.threshold:g}" if by_cosine else f"max rel ≤ {report.threshold:g}"
