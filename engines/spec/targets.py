"""Rules about what a task is for: its device, runtime and precision, and the version of the engines."""

from __future__ import annotations

from collections.abc import Sequence

from engines.failures import FailureReason, InvalidField
from engines.spec.devices import Device, DeviceRuntime, load_catalog
from engines.spec.toolchain import version_of

QUANTIZED = ("INT8", "INT4", "FP16", "BF16")
"""Precisions that a quantization makes."""
GOALS = ("FP32", "FP16", "BF16", "INT8")
"""Lowest precisions that a search may be allowed."""


def conversion_target(device: str, runtime: str, precision: str) -> DeviceRuntime:
    """Return the runtime of the catalog that a conversion builds for.

    Raises:
        InvalidField: INVALID_SPEC for an unknown device or runtime, TOOLCHAIN_UNAVAILABLE if this release has no
            builder for the runtime, UNSUPPORTED_PRECISION if the runtime does not compute in the precision.
    """
    found = load_catalog().device(device)
    chosen = found.runtime(runtime)
    if precision not in chosen.precisions:
        others = [each.name for each in found.buildable_runtimes.values() if precision in each.precisions]
        raise unsupported(found, chosen, precision, chosen.precisions, others)
    return chosen


def check_quantized(precision: str) -> None:
    """Refuse a precision that no quantization makes; InvalidField with the field `precision`."""
    if precision not in QUANTIZED:
        raise InvalidField(
            "precision", f"{precision} needs no quantization: convert the version. {', '.join(QUANTIZED)} do"
        )


def check_goal(device: str, precision: str) -> None:
    """Refuse a lowest precision that no search for a device aims at; InvalidField with the field `precision_goal`."""
    runtimes = load_catalog().device(device).buildable_runtimes.values()
    offered = {name for each in runtimes for name in (*each.precisions, *each.quantized)}
    if precision not in GOALS or precision not in offered:
        goals = ", ".join(goal for goal in GOALS if goal in offered)
        raise InvalidField("precision_goal", f"{precision} is no goal of a search for {device}; goals are {goals}")


def check_engines(version: str) -> str:
    """Return the version of the engines that are installed, empty if it is unknown; refuse a request for another one.

    Raises:
        InvalidField: TOOLCHAIN_UNAVAILABLE, with the field `engine_version`.
    """
    installed = version_of("lathe")
    if installed and version not in {"", installed}:
        raise InvalidField(
            "engine_version",
            f"there is no version '{version}' of the engines here; there is: {installed}",
            "Leave the field empty for the newest.",
            reason=FailureReason.TOOLCHAIN_UNAVAILABLE,
        )
    return installed


def unsupported(
    device: Device, runtime: DeviceRuntime, precision: str, offered: Sequence[str], others: Sequence[str]
) -> InvalidField:
    """Return the failure of a precision that a runtime does not offer on a device.

    Args:
        device: The device.
        runtime: One of its runtimes.
        precision: The precision.
        offered: Precisions that the runtime offers for this kind of task.
        others: Names of the runtimes that offer the precision.
    """
    fix = f"Choose one of these; {precision} there is offered by {', '.join(others) or 'no runtime'}."
    if precision in runtime.quantized and precision not in offered:
        fix = f"Convert in FP32, and create a quantization task with {precision}."
    return InvalidField(
        "precision",
        f"{runtime.name} on {device.id} does not compute in {precision}; it offers {', '.join(offered) or 'nothing'}",
        fix,
        code="UNSUPPORTED_PRECISION",
        reason=FailureReason.UNSUPPORTED_PRECISION,
    )
