"""Knobs that several runtimes share."""

from __future__ import annotations

from collections.abc import Mapping

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.opened import ALLOCATOR, THREADS


def check_knobs(runtime: str, knobs: Mapping[str, str], offered: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a knob that a runtime does not have, or a value that it does not take; no values stand for any number.

    Raises:
        EngineFailure: INVALID_SPEC that lists what there is.
    """
    for name, value in knobs.items():
        values = offered.get(name)
        if values is None:
            known = ", ".join(sorted(offered)) or "none"
            raise _invalid(f"{runtime} has no knob '{name}'; it has {known}.")
        if values and value not in values:
            raise _invalid(f"{runtime}'s knob '{name}' takes {' or '.join(values)}; given was '{value}'.")
        if not values and not (value.isdecimal() and int(value) > 0):
            raise _invalid(f"{runtime}'s knob '{name}' takes a whole number above 0; given was '{value}'.")


def shared_options(knobs: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the knobs that every runtime takes alike."""
    return {name: knobs[name] for name in (THREADS, ALLOCATOR) if name in knobs}


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
