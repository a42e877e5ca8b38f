"""NV12 images: what cameras, video decoders and hardware resizers give.

An NV12 image of H by W pixels is bytes (3H/2, W): H rows of luma (Y), then H/2 rows in which the two kinds of chroma
(Cb and Cr, also called U and V) alternate, each for a square of two by two pixels. Both sides are even.

R, G and B follow from Y, U and V by three linear equations, which ITU-R BT.601 and BT.709 state. The weights of red
and blue in luma give all their coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason

_WEIGHTS = {"BT601": (0.299, 0.114), "BT709": (0.2126, 0.0722)}
"""Weights of red and blue in luma."""
_NEUTRAL = 128.0
"""Chroma of greys."""


@dataclass(frozen=True)
class Nv12:
    """The colours of NV12 images.

    Attributes:
        wide: Whether luma and chroma use the whole range of a byte, as in JPEG files; otherwise luma is 16 to 235 and
            chroma is 16 to 240, as in video.
        matrix: `BT601` or `BT709`.
    """

    wide: bool = False
    matrix: str = "BT601"

    @property
    def bias(self) -> tuple[float, float, float]:
        """What is subtracted from Y, U and V first."""
        return (0.0 if self.wide else 16.0, _NEUTRAL, _NEUTRAL)

    def rows(self, order: str) -> NDArray[np.float64]:
        """Return the matrix that turns Y, U and V without bias into channels of 0 to 255: a row for each channel.

        Args:
            order: `RGB` or `BGR`, the order of the rows.
        """
        red, blue = _WEIGHTS[self.matrix]
        green = 1 - red - blue
        luma, chroma = (1.0, 1.0) if self.wide else (255 / 219, 255 / 224)
        of_red, of_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
        rows = np.array(
            [
                [luma, 0, of_red],
                [luma, -of_blue * blue / green, -of_red * red / green],
                [luma, of_blue, 0],
            ]
        )
        return rows if order == "RGB" else rows[::-1].copy()

    def decode(self, images: NDArray[Any], order: str) -> NDArray[np.float64]:
        """Return NV12 images (N, 3H/2, W) as channels (N, 3, H, W) of 0 to 255, computed in float64 and not rounded.

        Each value of chroma counts for its two by two pixels alike (nearest neighbour), as in hardware.
        """
        yuv = planes(images).astype(np.float64) - np.reshape(self.bias, (3, 1, 1))
        channels: NDArray[np.float64] = np.einsum("cp,nphw->nchw", self.rows(order), yuv)
        return channels.clip(0, 255)

    def encode(self, image: NDArray[Any], order: str = "BGR") -> NDArray[np.uint8]:
        """Return an image (H, W, 3) of 0 to 255, both sides even, as NV12 (3H/2, W).

        Chroma is the mean of its two by two pixels. Values are rounded.

        Raises:
            EngineFailure: INVALID_SPEC if a side is odd.
        """
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"An image of {height} by {width} pixels cannot be NV12: both sides must be even.",
                suggested_fix="Resize or crop images to even sizes.",
            )
        channels = image.astype(np.float64)
        yuv = channels @ np.linalg.inv(self.rows(order)).T + np.array(self.bias)
        chroma = yuv[:, :, 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))
        whole = np.concatenate([yuv[:, :, 0], chroma.reshape(height // 2, width)])
        return whole.round().clip(0, 255).astype(np.uint8)


def planes(images: NDArray[Any]) -> NDArray[Any]:
    """Return NV12 images (N, 3H/2, W) as planes of Y, U and V (N, 3, H, W); chroma repeated for two by two pixels."""
    height = images.shape[1] * 2 // 3
    luma, chroma = images[:, :height], images[:, height:]
    full = [luma, *(chroma[:, :, first::2].repeat(2, 1).repeat(2, 2) for first in (0, 1))]
    return np.stack(full, 1)
