"""Thumbnails of a page, limited in their total size."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Sequence

_PNG = b"\x89PNG\r\n\x1a\n"
TOTAL_BYTES = 2 << 20
"""Most bytes of pictures on a page, as base64."""
_LONGEST_SIDE = 360
_QUALITY = 78
_MOST_PIXELS = 4_000_000


def data_uris(pictures: Sequence[str], total: int = TOTAL_BYTES) -> list[str]:
    """Return a `data:` URI for each PNG in base64; empty if it is not a PNG or does not fit.

    A picture that exceeds its share of the total is stored as a smaller JPEG.
    """
    present = sum(1 for picture in pictures if picture)
    share = total // max(1, present)
    return [_uri(picture, share) if picture else "" for picture in pictures]


def _uri(picture: str, share: int) -> str:
    try:
        content = base64.b64decode(picture, validate=True)
    except (binascii.Error, ValueError):
        return ""
    if not content.startswith(_PNG):
        return ""
    if len(picture) <= share:
        return f"data:image/png;base64,{picture}"
    smaller = base64.b64encode(_smaller(content)).decode()
    return f"data:image/jpeg;base64,{smaller}" if smaller and len(smaller) <= share else ""


def _smaller(content: bytes) -> bytes:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.width * image.height > _MOST_PIXELS:
                return b""
            small = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombWarning):
        return b""
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    stored = io.BytesIO()
    small.save(stored, "JPEG", quality=_QUALITY)
    return stored.getvalue()
