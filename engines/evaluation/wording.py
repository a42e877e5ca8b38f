"""Preprocessing in words, for people who read a report."""

from __future__ import annotations

from collections.abc import Iterator

from engines.imaging import Steps
from engines.imaging.steps import Grey, Sized, SwapColors

_KINDS = {"resize": "resize to", "centercrop": "cut the middle:", "equal_resize": "resize with the ratio kept, pad to"}


def phrases(steps: Steps) -> Iterator[str]:
    """Yield a phrase per step: `resize to 224 x 224 (height x width)`."""
    for step in steps.steps:
        if isinstance(step, Sized):
            yield f"{_KINDS[step.kind]} {step.height} x {step.width} (height x width)"
        elif isinstance(step, SwapColors):
            yield "swap the colours: BGR to RGB"
        elif isinstance(step, Grey):
            yield "make grey"
        else:
            yield f"order the axes {', '.join(map(str, step.order))}"
