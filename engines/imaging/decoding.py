"""Reads image files with Pillow, limited in pixels and turned by their EXIF orientation."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason, first_line

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Array = NDArray[Any]
Image = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""Most pixels of an image: 10 000 by 10 000. A larger one is treated as a decompression bomb."""

LARGE_PIXELS = 16_000_000
"""Images with more pixels, 48 MB when decoded, are decoded one at a time."""

# MPO files are opened as JPEG, so MPO has no entry.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Errors of Pillow for files that are not images, are truncated, or have wrong headers.
_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError, MemoryError),
    struct.error,
)


def decode(source: bytes | Path) -> Image:
    """Return an image as bytes (rows, columns, 3) in BGR order, turned by its EXIF orientation.

    Transparency is drawn over black, 16-bit greys are scaled to bytes, and an animation gives its first frame.

    Raises:
        EngineFailure: INVALID_DATA if the file is not an image, is truncated, or has more than `MAX_PIXELS` pixels.
    """
    with _opened(source) as image:
        return np.ascontiguousarray(np.asarray(_as_rgb(_upright(image)))[:, :, ::-1])


class Size(NamedTuple):
    """The size of an image as it is displayed, and how its stored pixels are turned.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        turn: The turn from the stored to the displayed image: a name of `PIL.Image.Transpose`, or empty for none.
    """

    width: int
    height: int
    turn: str = ""


def measure(source: bytes | Path, large: AbstractContextManager[object] | None = None) -> Size:
    """Return the size of an image after verifying its checksums and decoding all of it.

    Args:
        source: The file.
        large: A lock that is held while an image of more than `LARGE_PIXELS` is decoded, to limit memory.

    Raises:
        EngineFailure: INVALID_DATA as for `decode`.
    """
    with _opened(source) as image:
        image.verify()
    with _opened(source) as image:
        turn = _turn(image)  # Read first, because loading a TIFF turns it.
        with large if large and image.width * image.height > LARGE_PIXELS else nullcontext():
            image.load()
        width, height = image.size
        swapped = _turn(image) in SWAPPING
    return Size(height, width, turn) if swapped else Size(width, height, turn)


_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""The turn to the displayed image, by EXIF orientation."""
SWAPPING = frozenset({"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"})
"""Turns that swap rows and columns."""


@contextmanager
def _opened(source: bytes | Path) -> Iterator[PillowImage]:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        # The size is checked before a pixel is decoded; Pillow's own limit is lower and only warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
                _check_size(*image.size)
                yield image
    except UnidentifiedImageError:
        raise _bad("is not in a supported format", _looks(source)) from None
    except Pillow.DecompressionBombError as error:
        raise _bad(f"has too many pixels; at most {MAX_PIXELS:,} are allowed", first_line(error)) from error
    except _ERRORS as error:
        raise _bad("cannot be decoded: it is truncated or damaged", first_line(error)) from error


def _turn(image: PillowImage) -> str:
    """Return the turn to the displayed image; empty if there is none or the EXIF orientation is not valid."""
    orientation = image.getexif().get(_ORIENTATION)
    return _TURNS.get(orientation, "") if isinstance(orientation, int) else ""


def _upright(image: PillowImage) -> PillowImage:
    """Return an image as it is displayed.

    `ImageOps.exif_transpose` is not used, because it rewrites the EXIF data and fails if any of it is damaged.
    """
    from PIL import Image as Pillow

    image.load()  # This turns a TIFF.
    turn = _turn(image)
    return image.transpose(Pillow.Transpose[turn]) if turn else image


def _as_rgb(image: PillowImage) -> PillowImage:
    from PIL import Image as Pillow

    if image.mode in {"I;16", "I;16B", "I;16L", "I;16N", "I"}:
        # Pillow would clip these to 255, which makes most of a 16-bit image white.
        return Pillow.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return Pillow.fromarray(np.nan_to_num(np.asarray(image)).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _bad(f"has {width} x {height} pixels; at most {MAX_PIXELS:,} are allowed")
    if width < 1 or height < 1:
        raise _bad("has no pixels")


def _looks(source: bytes | Path) -> str:
    head = source[:16] if isinstance(source, bytes) else _head(source)
    return f"begins with {head!r}" if head else "the file is empty"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _bad(what: str, evidence: str = "") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_DATA, f"The image {what}.", evidence=evidence)
