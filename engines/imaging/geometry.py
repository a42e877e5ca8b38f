"""Maps positions in an image to the model's input, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Geometry:
    """The effect of preprocessing on positions: `input = image * scale + offset`, along x and y.

    Attributes:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        scale_x: Input pixels per image pixel, along the image's width.
        scale_y: The same along its height.
        offset_x: Position of the image's left edge in the input, in input pixels.
        offset_y: Position of its top edge.
        turned: True if rows and columns are swapped, so that the input's x is the image's y.
    """

    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    turned: bool = False

    def scaled(self, scale_x: float, scale_y: float) -> Geometry:
        """Return the geometry after a resize."""
        return replace(
            self,
            scale_x=self.scale_x * scale_x,
            scale_y=self.scale_y * scale_y,
            offset_x=self.offset_x * scale_x,
            offset_y=self.offset_y * scale_y,
        )

    def moved(self, x: float, y: float) -> Geometry:
        """Return the geometry after the image is moved right by `x` and down by `y` input pixels."""
        return replace(self, offset_x=self.offset_x + x, offset_y=self.offset_y + y)

    def to_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Return boxes (n, 4) in image pixels, clipped to the image, for boxes in input pixels.

        Coordinates are left, top, right, bottom.
        """
        found = np.asarray(boxes, np.float64).reshape(-1, 4)
        found = found[:, [1, 0, 3, 2]] if self.turned else found
        placed = (found - [self.offset_x, self.offset_y] * 2) / ([self.scale_x, self.scale_y] * 2)
        return placed.clip(0.0, [self.width, self.height, self.width, self.height])
