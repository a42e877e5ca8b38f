"""Tells whether boxes are of an image as it is stored or as it is shown, and brings them to the image as it is shown.

Cameras store pixels as the sensor lay, and say by EXIF how to turn them. Some tools annotate what is stored, others
what is shown; the width and height beside the boxes tell which.
"""

from __future__ import annotations

from dataclasses import replace

from engines.datasets.found import Found, Notes, listed
from engines.datasets.items import Box
from engines.failures import count
from engines.imaging import SWAPPING, Size

_ROUNDING = 0.05
"""Pixels by which a box may stick out without a word: annotation files round to two places."""


class Orientation:
    """Brings boxes to images as they are shown."""

    def __init__(self) -> None:
        """Start with no image."""
        self._unclear: list[str] = []

    def boxes(self, found: Found, image: Size, notes: Notes) -> tuple[Box, ...]:
        """Return the boxes of an item in pixels of its image as it is shown.

        Boxes are of the stored pixels if the size beside them is that of the stored pixels and not that of the shown
        ones. If it is neither, a warning says so, and they are taken as they are.
        """
        shown = (image.width, image.height)
        swaps = image.turn in SWAPPING
        stored = (image.height, image.width) if swaps else shown
        if found.size is not None and found.size not in {shown, stored}:
            notes.warn(
                f"{found.path}: the image is {shown[0]} x {shown[1]} pixels, its annotations say "
                f"{found.size[0]} x {found.size[1]}; boxes are taken as they are."
            )
        elif found.size is None or shown == stored:
            if image.turn and found.boxes:
                self._unclear.append(found.path)
        elif found.size == stored:
            notes.turned += bool(found.boxes)
            return tuple(_turned(box, image.turn, *stored) for box in found.boxes)
        return found.boxes

    def warn(self, notes: Notes) -> None:
        """Note how many images do not tell what their boxes are of."""
        if self._unclear:
            turned = count(len(self._unclear), "image is", "images are")
            notes.warn(
                f"{turned} turned by EXIF data, and the annotations do not tell which pixels they mean: no size is "
                "given, or it fits the stored and the shown pixels. Boxes are taken to be of the image as it is shown: "
                f"{listed(self._unclear)}."
            )


def _turned(box: Box, turn: str, width: int, height: int) -> Box:
    """Return a box of stored pixels (`width` by `height`) on the image after a turn that swaps rows and columns."""
    from_left, from_top = box.x, box.y
    from_right, from_bottom = width - box.x - box.width, height - box.y - box.height
    x = from_top if turn in {"TRANSPOSE", "ROTATE_90"} else from_bottom
    y = from_left if turn in {"TRANSPOSE", "ROTATE_270"} else from_right
    return replace(box, x=x, y=y, width=box.height, height=box.width)


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
