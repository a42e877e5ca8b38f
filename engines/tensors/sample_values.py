"""Plausible values for inputs, in addition to the noise of generated samples.

Noise alone misleads about reduced precisions: it excites every channel alike, and lacks the smooth areas, the silence
and the repetition of real data. Shape, element type and name tell the kind of an input:

    images   (N, C, H, W) or (N, H, W, C) of 1, 3 or 4 channels: smooth waves with a few flat rectangles on them
    NV12     (N, 3H/2, W), if the preprocessing says so: the same in colour
    tones    (N, T) or (N, C, T) with T of at least 480, 30 ms of speech: some sines under an envelope
    tokens   integers in a range of at least 16: Zipf's law, like words; masks, positions and segments to match
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.imaging import Nv12
from engines.tensors import Array
from engines.tensors.shapes import Shape

NOISE = "noise"

_CHANNELS = frozenset({1, 3, 4})
_LEAST_SIDE = 8
_LEAST_LENGTH = 480
_MOST_TRACKS = 2
_LEAST_VOCABULARY = 16
_MEAN, _DEVIATION = 0.45, 0.225
"""Of photographs with values from 0 to 1; image networks normalize with them."""


@dataclass(frozen=True)
class Field:
    """One input to fill.

    Attributes:
        span: The smallest and largest value that it takes, if they are known.
        nv12: Colours of NV12 images; None if it takes none.
    """

    name: str
    dtype: str
    shape: Shape
    span: tuple[float, float] | None = None
    nv12: Nv12 | None = None


def plausible(rng: np.random.Generator, fields: Sequence[Field]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return values for the inputs of known kind, by name, and the kinds, sorted.

    Values are float64 or int64, and lie in the field's span if it has one.
    """
    found: dict[str, tuple[str, Array]] = {}
    for field in fields:
        letter = np.dtype(field.dtype).kind
        if field.nv12 is not None:
            found[field.name] = "NV12 images", _nv12_images(rng, field.nv12, field.shape)
        elif letter in "fu" and (axis := _channel_axis(field.shape)):
            found[field.name] = "images", _images(rng, field, axis)
        elif letter == "f" and _is_signal(field.shape):
            found[field.name] = "tones", _tones(rng, field)
        elif letter in "iu" and field.span and field.span[1] - field.span[0] >= _LEAST_VOCABULARY:
            found[field.name] = "tokens", _tokens(rng, field.shape, field.span)
    kinds = {kind for kind, _ in found.values()}
    values = {name: array for name, (_, array) in found.items()}
    if "tokens" in kinds:
        values |= {
            field.name: _within(field, array) for field in fields if (array := _beside_tokens(field)) is not None
        }
    return values, tuple(sorted(kinds))


def _channel_axis(shape: Shape) -> int:
    """Return the axis of the channels of images; 0 if the shape is not that of images."""
    if len(shape) == 4:
        for axis, sides in ((1, shape[2:]), (3, shape[1:3])):
            if shape[axis] in _CHANNELS and min(sides) >= _LEAST_SIDE:
                return axis
    return 0


def _is_signal(shape: Shape) -> bool:
    return len(shape) in (2, 3) and shape[-1] >= _LEAST_LENGTH and (len(shape) == 2 or shape[1] <= _MOST_TRACKS)


def _images(rng: np.random.Generator, field: Field, axis: int) -> Array:
    count, height, width = (extent for place, extent in enumerate(field.shape) if place != axis)
    pictures = np.stack([_picture(rng, field.shape[axis], height, width) for _ in range(count)])
    if field.span is None:
        pictures = (pictures - _MEAN) / _DEVIATION
    else:
        pictures = field.span[0] + pictures * (field.span[1] - field.span[0])
    return np.moveaxis(pictures, 1, axis)


def _nv12_images(rng: np.random.Generator, colors: Nv12, shape: Shape) -> Array:
    count, height, width = shape[0], shape[1] * 2 // 3, shape[2]
    pictures = (np.moveaxis(_picture(rng, 3, height, width), 0, 2) for _ in range(count))
    return np.stack([colors.encode(255 * picture) for picture in pictures])


def _picture(rng: np.random.Generator, channels: int, height: int, width: int) -> Array:
    """Return (channels, height, width) with values from 0 to 1."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    picture = np.zeros((channels, height, width))
    for _ in range(4):
        down, right = rng.uniform(0.2, 4, 2)
        wave = np.cos(2 * np.pi * (down * y + right * x + rng.uniform()))
        picture += rng.uniform(0.1, 1, (channels, 1, 1)) * wave
    picture -= picture.min()
    picture /= picture.max() or 1
    for _ in range(3):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        picture[:, top : top + height // 3, left : left + width // 3] = rng.uniform(0, 1, (channels, 1, 1))
    return picture


def _tones(rng: np.random.Generator, field: Field) -> Array:
    tracks = [_track(rng, field.shape[-1]) for _ in range(math.prod(field.shape[:-1]))]
    low, high = field.span or (-1.0, 1.0)
    return np.reshape((low + high) / 2 + (high - low) / 2 * np.stack(tracks), field.shape)


def _track(rng: np.random.Generator, length: int) -> Array:
    """Return (length,) with values from -0.5 to 0.5."""
    time, track = np.arange(length), np.zeros(length)
    for _ in range(3):
        cycles = math.exp(rng.uniform(math.log(1 / 400), math.log(1 / 8)))  # per sample: 40 Hz to 2 kHz at 16 kHz
        track += rng.uniform(0.2, 1) * np.sin(2 * np.pi * (cycles * time + rng.uniform()))
    track *= 0.5 + 0.5 * np.cos(2 * np.pi * (time / length - rng.uniform()))
    track += 1e-3 * rng.standard_normal(length)
    track *= 0.5 / np.abs(track).max()
    return track


def _tokens(rng: np.random.Generator, shape: Shape, span: tuple[float, float]) -> Array:
    """Return token numbers whose frequency is proportional to 1 / rank."""
    low, high = int(np.ceil(span[0])), int(np.floor(span[1]))
    ranks = np.exp(rng.uniform(0, np.log(high - low + 1), shape)).astype(np.int64)
    return np.asarray(np.minimum(low + ranks - 1, high))


def _beside_tokens(field: Field) -> Array | None:
    """Return values for a mask, positions or segments, by the input's name: the last quarter is padding."""
    if np.dtype(field.dtype).kind not in "iub" or not field.shape:
        return None
    name, places = field.name.lower(), np.broadcast_to(np.arange(field.shape[-1]), field.shape)
    if "position" in name:
        return places if field.span is None else places + int(np.ceil(field.span[0]))
    late = places >= -(-3 * field.shape[-1] // 4)
    if "mask" in name:
        return (~late).astype(np.int64)
    return late.astype(np.int64) if "type" in name or "segment" in name else None


def _within(field: Field, values: Array) -> Array:
    """Return values clipped to the range of the input."""
    if field.span is None:
        return values
    return np.clip(values, int(np.ceil(field.span[0])), int(np.floor(field.span[1])))
