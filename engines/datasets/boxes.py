"""Brings boxes to the image as it is displayed: turns them by the image's EXIF orientation and clips them to it.

Cameras store pixels in the sensor's orientation and record in EXIF how to turn them. Some tools annotate the stored
image, others the displayed one; the width and height in the annotations tell which.
"""

from __future__ import annotations

from dataclasses import replace

from engines.datasets.found import Found, Notes, listed
from engines.datasets.items import Box
from engines.failures import count
from engines.imaging import SWAPPING, Size

_ROUNDING = 0.05
"""Pixels by which a box may extend past the image without a warning: annotation files round to two decimals."""


class Orientation:
    """Brings boxes to images as they are displayed."""

    def __init__(self) -> None:
        """Start with no image."""
        self._unclear: list[str] = []

    def boxes(self, found: Found, image: Size, notes: Notes) -> tuple[Box, ...]:
        """Return the boxes of an item in pixels of its image as it is displayed.

        Boxes refer to the stored image if the annotated size is that of the stored image and not that of the displayed
        one. If it is neither, they stay unchanged, with a warning.
        """
        shown = (image.width, image.height)
        swaps = image.turn in SWAPPING
        stored = (image.height, image.width) if swaps else shown
        if found.size is not None and found.size not in {shown, stored}:
            notes.warn(
                f"{found.path}: the image has {shown[0]} x {shown[1]} pixels, but its annotations say "
                f"{found.size[0]} x {found.size[1]}; its boxes are used unchanged."
            )
        elif found.size is None or shown == stored:
            if image.turn and found.boxes:
                self._unclear.append(found.path)
        elif found.size == stored:
            notes.turned += bool(found.boxes)
            return tuple(_turned(box, image.turn, *stored) for box in found.boxes)
        return found.boxes

    def warn(self, notes: Notes) -> None:
        """Note how many images leave it open which orientation their boxes refer to."""
        if self._unclear:
            turned = count(len(self._unclear), "image is", "images are")
            notes.warn(
                f"{turned} rotated or flipped by EXIF data, and the annotations do not tell whether their boxes refer "
                "to the stored or to the displayed image: they give no size, or one that fits both. The boxes are "
                f"used as boxes of the displayed image: {listed(self._unclear)}."
            )


def _turned(box: Box, turn: str, width: int, height: int) -> Box:
    """Return a box of the stored image (`width` by `height`) after a turn that swaps rows and columns."""
    from_left, from_top = box.x, box.y
    from_right, from_bottom = width - box.x - box.width, height - box.y - box.height
    x = from_top if turn in {"TRANSPOSE", "ROTATE_90"} else from_bottom
    y = from_left if turn in {"TRANSPOSE", "ROTATE_270"} else from_right
    return replace(box, x=x, y=y, width=box.height, height=box.width)


def fit_boxes(boxes: tuple[Box, ...], width: int, height: int, path: str, notes: Notes) -> tuple[Box, ...]:
    """Return the boxes clipped to an image of `width` by `height` pixels, without those that are outside or empty.

    Each change is noted with the image and the box's origin, or else its number among the image's boxes, from 1.
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
    """Return the clipped box, or None if nothing is left, and what was wrong with it."""
    if box.width <= 0 or box.height <= 0:
        return None, "has no area and is left out"
    left, top = max(0.0, box.x), max(0.0, box.y)
    right, bottom = min(float(width), box.x + box.width), min(float(height), box.y + box.height)
    if right <= left or bottom <= top:
        return None, f"lies outside the image of {width} x {height} and is left out"
    over = max(left - box.x, top - box.y, box.x + box.width - right, box.y + box.height - bottom)
    if over <= 0:
        return box, ""
    trouble = f"extends past the image of {width} x {height} and is clipped" if over > _ROUNDING else ""
    area = None if box.area is None else min(box.area, (right - left) * (bottom - top))
    return replace(box, x=left, y=top, width=right - left, height=bottom - top, area=area), trouble


def _named(box: Box, number: int) -> str:
    return f"{box.origin or f'box {number}'} ('{box.label}', {box.width:g} x {box.height:g} at {box.x:g}, {box.y:g})"
