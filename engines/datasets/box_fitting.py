"""Brings boxes inside their image."""

from __future__ import annotations

from dataclasses import replace

from engines.datasets.found import Notes
from engines.datasets.items import Box

_ROUNDING = 0.05
"""Pixels by which a box may stick out without a word: annotation files round to two places."""


def fit_boxes(boxes: tuple[Box, ...], width: int, height: int, path: str, notes: Notes) -> tuple[Box, ...]:
    """Return the boxes clipped to an image of `width` by `height` pixels, without those outside it or without area.

    Each that changes is noted with the image and its origin, or else its place among the image's boxes, from 1.
    """
    kept = []
    for number, box in enumerate(boxes, 1):
        fitted, trouble = _fit(box, width, height)
        if trouble:
            (notes.drop_annotation if fitted is None else notes.warn)(f"{path}: {_named(box, number)} {trouble}.")
        if fitted is not None:
            kept.append(fitted)
    return tuple(kept)


def _fit(box: Box, width: int, height: int) -> tuple[Box | None, str]:
    """Return what is left of a box, and what is wrong with it."""
    if box.width <= 0 or box.height <= 0:
        return None, "has no area and is left out"
    left, top = max(0.0, box.x), max(0.0, box.y)
    right, bottom = min(float(width), box.x + box.width), min(float(height), box.y + box.height)
    if right <= left or bottom <= top:
        return None, f"lies outside the image of {width} x {height} and is left out"
    over = max(left - box.x, top - box.y, box.x + box.width - right, box.y + box.height - bottom)
    if over <= 0:
        return box, ""
    trouble = f"sticks out of the image of {width} x {height} and is clipped" if over > _ROUNDING else ""
    area = None if box.area is None else min(box.area, (right - left) * (bottom - top))
    return replace(box, x=left, y=top, width=right - left, height=bottom - top, area=area), trouble


def _named(box: Box, number: int) -> str:
    return f"{box.origin or f'box {number}'} ('{box.label}', {box.width:g} x {box.height:g} at {box.x:g}, {box.y:g})"
