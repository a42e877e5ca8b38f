"""Preprocessing steps as people type them: `resize=224x224`, `cvtRGB`, `transpose=2,0,1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

if TYPE_CHECKING:
    from lathe.type.v1.preprocessing_pb2 import PreprocessingStep

SIZED = ("resize", "centercrop", "equal_resize")


def parse_steps(texts: list[str]) -> list[PreprocessingStep]:
    """Return the steps of `--step` options, in their order.

    Raises:
        CliError: A text is no step.
    """
    return [_step(text) for text in texts]


def _step(text: str) -> PreprocessingStep:
    from lathe.type.v1.preprocessing_pb2 import Axes, PreprocessingStep, Size

    name, _, value = text.partition("=")
    try:
        if name in SIZED:
            height, width = (int(part) for part in value.split("x"))
            return PreprocessingStep(**{name: Size(height=height, width=width)})  # type: ignore[arg-type]
        if name == "transpose":
            return PreprocessingStep(transpose=Axes(order=[int(axis) for axis in value.split(",")]))
    except ValueError:
        pass  # told below, with every other text that is no step
    if text == "cvtRGB":
        return PreprocessingStep(cvt_rgb=True)
    raise CliError(
        f"--step {text!r} is no step; steps are resize=HEIGHTxWIDTH, centercrop=…, equal_resize=…, cvtRGB and "
        "transpose=2,0,1.",
        ExitCode.USAGE,
    )
