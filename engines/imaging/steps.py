"""Preprocessing steps, which bring a decoded image to a model's input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.imaging.decoding import Array, Image
from engines.imaging.geometry import Geometry
from engines.imaging.nv12 import Nv12

PADDING = 114
"""Grey level of the padding of `equal_resize`, as in the training of YOLO models."""

_GREY_WEIGHTS = (0.114, 0.587, 0.299)
_NAMES = {
    "resize": "resize",
    "centercrop": "centercrop",
    "equal_resize": "equal_resize",
    "equalResize": "equal_resize",
    "cvt_rgb": "cvt_rgb",
    "cvtRGB": "cvt_rgb",
    "transpose": "transpose",
}
_MAX_SIDE = 65536

_Kind = Literal["resize", "centercrop", "equal_resize"]
_WORDS = {
    "resize": "resize to",
    "centercrop": "crop the centre to",
    "equal_resize": "resize and pad to",
}


@dataclass(frozen=True)
class Sized:
    """A resize or crop to (height, width)."""

    kind: _Kind
    height: int
    width: int

    def apply(self, image: Image) -> Image:
        """Return the image (rows, columns, channels) at this size."""
        height, width = image.shape[:2]
        if self.kind == "resize":
            return _resized(image, self.height, self.width)
        if self.kind == "equal_resize":
            inner = _inner(height, width, self.height, self.width)
            return _centred(_resized(image, *inner), self.height, self.width, PADDING)
        return _centred(image, self.height, self.width, 0)

    def place(self, geometry: Geometry, height: int, width: int) -> Geometry:
        """Return the geometry after this step is applied to an image of `height` by `width`."""
        if self.kind == "resize":
            return geometry.scaled(self.width / width, self.height / height)
        if self.kind == "equal_resize":
            inner_height, inner_width = _inner(height, width, self.height, self.width)
            geometry = geometry.scaled(inner_width / width, inner_height / height)
            height, width = inner_height, inner_width
        return geometry.moved(_shift(width, self.width), _shift(height, self.height))

    def __str__(self) -> str:
        """Return the step in words, for reports."""
        return f"{_WORDS[self.kind]} {self.height} x {self.width} (height x width)"


@dataclass(frozen=True)
class SwapColors:
    """Swaps BGR and RGB; grey images stay as they are."""

    def __str__(self) -> str:
        """Return the step in words, for reports."""
        return "swap the colours: BGR to RGB"


@dataclass(frozen=True)
class Grey:
    """Turns BGR into one grey channel, with the weights of ITU-R BT.601."""

    def __str__(self) -> str:
        """Return the step in words, for reports."""
        return "convert to grey"


@dataclass(frozen=True)
class Transpose:
    """Permutes the axes; `order` has the old axis of each new one."""

    order: tuple[int, ...]

    def __str__(self) -> str:
        """Return the step in words, for reports."""
        return f"order the axes {', '.join(map(str, self.order))}"


@dataclass(frozen=True)
class ToNv12:
    """Turns BGR into NV12, as the last step; both sides are even then."""

    colors: Nv12

    def __str__(self) -> str:
        """Return the step in words, for reports."""
        return f"convert to NV12 ({self.colors.matrix}, {'wide' if self.colors.wide else 'narrow'} range)"


Step = Sized | SwapColors | Grey | Transpose | ToNv12


@dataclass(frozen=True)
class Steps:
    """Steps in the order in which they run. Sizes are always rows by columns of the image, in any axis order."""

    steps: tuple[Step, ...]

    @classmethod
    def parse(
        cls,
        steps: Iterable[Mapping[str, Any]],
        tensor: Mapping[str, Any] | None = None,
        nv12: Nv12 | None = None,
    ) -> Self:
        """Return the steps of `PreprocessingStep` messages.

        Args:
            steps: Each of `resize`, `centercrop`, `equal_resize` (with `height` and `width`), `cvt_rgb` (or `cvtRGB`),
                or `transpose` (with `order`, of three axes, or of four with the batch first).
            tensor: The input that takes the result, as in the manifest; if it takes one channel, images are converted
                to grey first.
            nv12: Colours of the NV12 images that the input takes, to which images are converted last; None if it takes
                none. Its steps only resize and crop.

        Raises:
            EngineFailure: INVALID_SPEC that names the step by its number from 1.
        """
        parsed = [_parse(number, step) for number, step in enumerate(steps, 1)]
        found = [step for step in parsed if step is not None]
        if nv12 is not None:
            for number, step in enumerate(parsed, 1):
                if not isinstance(step, Sized | None):
                    raise _bad(number, "reorders colours or axes; for an input of NV12 images, steps resize and crop")
            return cls((*found, ToNv12(nv12)))
        return cls((Grey(), *found) if tensor is not None and takes_grey(tensor) else tuple(found))

    def apply(self, image: Image) -> Array:
        """Return an image (rows, columns, 3) in BGR order after the steps; values stay bytes."""
        axes: tuple[int, ...] = (0, 1, 2)
        for step in self.steps:
            if isinstance(step, Transpose):
                image = image.transpose(step.order)
                axes = tuple(axes[old] for old in step.order)
                continue
            if isinstance(step, ToNv12):
                return step.colors.encode(image)
            upright = image.transpose(np.argsort(axes))
            image = _on_image(step, upright).transpose(axes)
        return np.ascontiguousarray(image)

    def geometry(self, height: int, width: int) -> Geometry:
        """Return how positions in an image of `height` by `width` pixels map to the result."""
        geometry = Geometry(width, height)
        axes: tuple[int, ...] = (0, 1, 2)
        for step in self.steps:
            if isinstance(step, Transpose):
                axes = tuple(axes[old] for old in step.order)
            elif isinstance(step, Sized):
                geometry = step.place(geometry, height, width)
                height, width = step.height, step.width
        if axes.index(0) > axes.index(1):
            return replace(geometry, turned=True)
        return geometry


def takes_grey(tensor: Mapping[str, Any]) -> bool:
    """Return whether an input takes images of one channel: (N, 1, H, W), (N, H, W, 1) or (N, H, W)."""
    extents = [int(extent) for extent in (tensor.get("shape") or {}).get("opt") or ()]
    return len(extents) == 3 or (len(extents) == 4 and 1 in {extents[1], extents[3]} and extents[1] != 3)


def _on_image(step: Sized | SwapColors | Grey, image: Image) -> Image:
    if isinstance(step, Sized):
        return step.apply(image)
    if image.shape[2] == 1:
        return image
    if isinstance(step, SwapColors):
        return image[:, :, ::-1]
    grey: Image = np.rint(image @ np.array(_GREY_WEIGHTS)).astype(np.uint8)
    return grey[:, :, None]


def _resized(image: Image, height: int, width: int) -> Image:
    """Resize bilinearly with antialiasing, so that every pixel of a large image counts."""
    from PIL import Image as Pillow

    if image.shape[:2] == (height, width):
        return image
    grey = image.shape[2] == 1
    picture = Pillow.fromarray(np.ascontiguousarray(image[:, :, 0] if grey else image))
    resized = np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR))
    return resized[:, :, None] if grey else resized


def _inner(height: int, width: int, into_height: int, into_width: int) -> tuple[int, int]:
    ratio = min(into_height / height, into_width / width)
    return max(1, min(into_height, round(height * ratio))), max(1, min(into_width, round(width * ratio)))


def _shift(extent: int, into: int) -> int:
    """Return the position of the first pixel of `extent` centred in `into`; negative if it is cropped."""
    return (into - extent) // 2 if into >= extent else -((extent - into) // 2)


def _centred(image: Image, height: int, width: int, fill: int) -> Image:
    top, left = _shift(image.shape[0], height), _shift(image.shape[1], width)
    cut = image[max(0, -top) : max(0, -top) + height, max(0, -left) : max(0, -left) + width]
    if cut.shape[:2] == (height, width):
        return cut
    filled = np.full((height, width, image.shape[2]), fill, image.dtype)
    filled[max(0, top) : max(0, top) + cut.shape[0], max(0, left) : max(0, left) + cut.shape[1]] = cut
    return filled


def _parse(number: int, step: Mapping[str, Any]) -> Step | None:
    name = _NAMES.get(next(iter(step))) if len(step) == 1 else None
    if name is None:
        known = "resize, centercrop, equal_resize, cvtRGB, transpose"
        raise _bad(number, f"is {dict(step)!r}; a step must be one of {known}")
    value = next(iter(step.values()))
    if name == "cvt_rgb":
        return SwapColors() if value else None
    if name == "transpose":
        return Transpose(_order(number, value))
    height, width = (_side(number, name, value, side) for side in ("height", "width"))
    return Sized(name, height, width)  # type: ignore[arg-type]


def _side(number: int, name: str, value: object, side: str) -> int:
    pixels = value.get(side) if isinstance(value, Mapping) else None
    if not isinstance(pixels, int) or isinstance(pixels, bool) or not 1 <= pixels <= _MAX_SIDE:
        raise _bad(number, f"({name}) needs a {side} of 1 to {_MAX_SIDE} pixels, not {pixels!r}")
    return pixels


def _order(number: int, value: object) -> tuple[int, ...]:
    order = tuple(value.get("order", ())) if isinstance(value, Mapping) else ()
    if len(order) == 4 and order[0] == 0 and sorted(order) == [0, 1, 2, 3]:
        order = tuple(axis - 1 for axis in order[1:])
    if sorted(order) != [0, 1, 2]:
        raise _bad(number, f"(transpose) needs an order of the axes 0, 1 and 2, each once, not {list(order)}")
    return order


def _bad(number: int, what: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, f"Preprocessing step {number} {what}.")
