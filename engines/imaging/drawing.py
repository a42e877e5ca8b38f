"""Draws annotations and predictions on images, for people."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from engines.imaging.decoding import Image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_SMALL = 320
_LARGEST_FACTOR = 16
_LARGE = 2000
_LONGEST_LABEL = 40
_LONGEST_TEXT = 300
"""Most characters of a caption line: more do not fit, and Pillow fails on very long texts."""
# Colours that differ in hue and lightness, as in Glasbey's palettes, and suit black or white text.
_PALETTE = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (255, 165, 0),
    (145, 30, 180),
    (70, 220, 230),
    (240, 50, 230),
    (190, 230, 50),
    (0, 128, 128),
    (170, 110, 40),
    (255, 225, 25),
    (128, 0, 0),
    (170, 255, 195),
    (0, 0, 160),
    (255, 150, 160),
    (128, 128, 0),
)
_GOLDEN = 0.618033988749895
# Fonts with more scripts than Pillow's own, which has Latin only.
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf")


@dataclass(frozen=True)
class DrawnBox:
    """A box to draw, in image pixels from the top left corner.

    Attributes:
        label: Its class, which determines its colour.
        x: Left edge.
        y: Top edge.
        width: Width.
        height: Height.
        score: Confidence, written after the label; not written if None.
        dashed: True for a dashed outline, which marks a true box or a crowd.
    """

    label: str
    x: float
    y: float
    width: float
    height: float
    score: float | None = None
    dashed: bool = False


def draw(
    image: Image, boxes: Sequence[DrawnBox] = (), caption: Sequence[str] = (), classes: Sequence[str] = ()
) -> bytes:
    """Return a PNG of an image with boxes, their labels, and a caption below.

    Small images are enlarged by an integer factor without smoothing; lines and text are drawn at the final size.

    Args:
        image: Bytes (rows, columns, 3) in BGR order.
        boxes: Boxes in image pixels.
        caption: Lines of text below the image.
        classes: All classes, so that each has the same colour in every image; the classes of the boxes if empty.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    factor = _factor(image)
    picture = Pillow.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Pillow.Resampling.NEAREST)
    palette = _colors(list(classes) or sorted({box.label for box in boxes}))
    pen = ImageDraw.Draw(picture)
    # Labels are drawn last, so that no box hides one, and large boxes first, so that small ones stay visible.
    ordered = sorted(boxes, key=lambda box: -box.width * box.height)
    for box in ordered:
        _outline(pen, box, factor, palette.get(box.label, (255, 255, 255)), _line_width(picture))
    for box in ordered:
        _label(pen, box, factor, palette.get(box.label, (255, 255, 255)), picture)
    return _png(_captioned(picture, caption) if caption else picture)


def encode_png(image: Image) -> bytes:
    """Return an image, bytes (rows, columns, 3) in BGR order, as a PNG."""
    from PIL import Image as Pillow

    return _png(Pillow.fromarray(np.ascontiguousarray(image[:, :, ::-1])))


def _factor(image: Image) -> int:
    longest = max(image.shape[:2])
    return min(_LARGEST_FACTOR, -(-_SMALL // longest)) if longest < _SMALL else 1


def _line_width(picture: PillowImage) -> int:
    return 2 if max(picture.size) < _LARGE else round(max(picture.size) / 700)


def _colors(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    return {label: _color(index) for index, label in enumerate(labels)}


def _color(index: int) -> tuple[int, int, int]:
    if index < len(_PALETTE):
        return _PALETTE[index]
    red, green, blue = colorsys.hls_to_rgb(index * _GOLDEN % 1, (0.4, 0.55, 0.7)[index % 3], 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def _corners(box: DrawnBox, factor: int) -> tuple[float, float, float, float]:
    return box.x * factor, box.y * factor, (box.x + box.width) * factor - 1, (box.y + box.height) * factor - 1


def _outline(pen: ImageDraw, box: DrawnBox, factor: int, color: tuple[int, int, int], width: int) -> None:
    left, top, right, bottom = _corners(box, factor)
    right, bottom = max(left, right), max(top, bottom)
    if not box.dashed:
        pen.rectangle((left, top, right, bottom), outline=color, width=width)
        return
    dash = 4 * width
    for y in (top, bottom):
        for x in np.arange(left, right, 2 * dash):
            pen.line((x, y, min(x + dash, right), y), fill=color, width=width)
    for x in (left, right):
        for y in np.arange(top, bottom, 2 * dash):
            pen.line((x, y, x, min(y + dash, bottom)), fill=color, width=width)


def _label(pen: ImageDraw, box: DrawnBox, factor: int, color: tuple[int, int, int], picture: PillowImage) -> None:
    text = _short(box.label, _LONGEST_LABEL) + ("" if box.score is None else f" {box.score:.2f}")
    if not text:
        return
    font = _font(_font_size(picture), wide=not text.isascii())
    left, top, _, _ = _corners(box, factor)
    _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right + 6, bottom + 4
    x = max(0.0, min(left, picture.width - width))
    y = top - height if top >= height else top
    pen.rectangle((x, y, x + width, y + height), fill=color)
    pen.text((x + 3, y + 1), text, fill=_ink(color), font=font)


def _captioned(picture: PillowImage, caption: Sequence[str]) -> PillowImage:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    size = _font_size(picture)
    step = round(size * 1.4)
    taller = Pillow.new("RGB", (picture.width, picture.height + step * len(caption) + size // 2), (24, 24, 27))
    taller.paste(picture, (0, 0))
    pen = ImageDraw.Draw(taller)
    for number, line in enumerate(map(_short, caption)):
        font = _font(size, wide=not line.isascii())
        pen.text((6, picture.height + size // 4 + number * step), line, fill=(244, 244, 245), font=font)
    return taller


def _font_size(picture: PillowImage) -> int:
    return max(13, round(max(picture.size) / 70))


@lru_cache(maxsize=32)
def _font(size: int, *, wide: bool) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    for name in _WIDE_FONTS if wide else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue  # Not installed.
    return ImageFont.load_default(size)


def _short(text: str, most: int = _LONGEST_TEXT) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _ink(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever is easier to read on `color`, by its perceived lightness."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _png(picture: PillowImage) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
