"""Reads image files by Pillow, bounded in pixels, the way up that their EXIF data says."""

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
"""Most pixels of an image: 10 000 by 10 000. A larger one is taken for a decompression bomb."""

LARGE_PIXELS = 16_000_000
"""Pixels from which an image, decoded, is worth a thought: 48 MB."""

# Files of the format MPO are opened as JPEG; it has no entry of its own.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What Pillow raises for files that are no images, are cut off, or lie about themselves.
_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError, MemoryError),
    struct.error,
)


def decode(source: bytes | Path) -> Image:
    """Return an image as bytes (rows, columns, 3) in the order blue, green, red, the way up that its EXIF data says.

    Transparent parts come out over black. 16-bit greys are scaled to bytes. Of an animation this is the first frame.

    Raises:
        EngineFailure: INVALID_DATA where the file is no image, is cut off, or has more than `MAX_PIXELS` pixels.
    """
    with _opened(source) as image:
        return np.ascontiguousarray(np.asarray(_as_rgb(_upright(image)))[:, :, ::-1])


class Size(NamedTuple):
    """How large an image is.

    Attributes:
        width: Columns of pixels, the way up that the image is shown.
        height: Rows of pixels, the way up that it is shown.
        turn: What brings the stored pixels upright: a name of `PIL.Image.Transpose`; empty if they are upright.
    """

    width: int
    height: int
    turn: str = ""


def measure(source: bytes | Path, large: AbstractContextManager[object] | None = None) -> Size:
    """Return the size of an image, after checking its sums and decoding it whole.

    Args:
        source: The file.
        large: Entered while an image of more than `LARGE_PIXELS` is decoded: a lock, so that threads share the memory.

    Raises:
        EngineFailure: INVALID_DATA, as for `decode`.
    """
    with _opened(source) as image:
        image.verify()
    with _opened(source) as image:
        turn = _turn(image)  # Loading a TIFF turns it.
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
"""What brings an image of each EXIF orientation upright."""
SWAPPING = frozenset({"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"})
"""Turns after which rows are columns."""


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
        raise _bad("has no format that can be read", _looks(source)) from None
    except Pillow.DecompressionBombError as error:
        raise _bad(f"has too many pixels; at most {MAX_PIXELS:,} are allowed", first_line(error)) from error
    except _ERRORS as error:
        raise _bad("cannot be decoded: it is cut off or damaged", first_line(error)) from error


def _turn(image: PillowImage) -> str:
    """Return what brings an image upright; nothing where it is, or where its EXIF data says no orientation there is."""
    orientation = image.getexif().get(_ORIENTATION)
    return _TURNS.get(orientation, "") if isinstance(orientation, int) else ""


def _upright(image: PillowImage) -> PillowImage:
    """Return an image the way up that it is shown.

    Not by `ImageOps.exif_transpose`: it writes the EXIF data anew, and fails on damaged data that nobody needs.
    """
    from PIL import Image as Pillow

    image.load()  # Of a TIFF this turns the image.
    turn = _turn(image)
    return image.transpose(Pillow.Transpose[turn]) if turn else image


def _as_rgb(image: PillowImage) -> PillowImage:
    from PIL import Image as Pillow

    if image.mode in {"I;16", "I;16B", "I;16L", "I;16N", "I"}:
        # Pillow would clip these to 255 and so turn nearly all of a 16-bit image white.
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
