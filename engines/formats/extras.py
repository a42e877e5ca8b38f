"""Formats whose readers only some install: extras of the package."""

from __future__ import annotations

from engines.failures import EngineFailure, FailureReason, first_line


def not_installed(formats: str, packages: str, extra: str, error: ImportError) -> EngineFailure:
    """Return the failure for formats that cannot be read because an extra is not installed.

    Args:
        formats: What cannot be read: `TensorFlow's formats`.
        packages: What is missing.
        extra: The extra that brings it.
        error: What importing it raised.
    """
    return EngineFailure(
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        f"{formats} cannot be read here: {packages} is not installed.",
        evidence=first_line(error),
        suggested_fix=f"Those who run the worker install `lathe[{extra}]`.",
    )
