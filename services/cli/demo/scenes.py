"""Scenes composed of real handwritten digits, each with a known box: what the detector learns and is judged by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.demo.digit_images import png, write_archive

if TYPE_CHECKING:
    import numpy as np

SIZE = 96
"""Width and height of a scene in pixels."""

DIGIT_PIXELS = (16, 24, 32, 40)
"""Widths and heights that the 8×8 digits are enlarged to."""

MOST_DIGITS = 4
LIGHTS = ("day", "dusk", "night")
"""How bright and how noisy a scene is: the attribute by which the evaluation is sliced."""

_CONTRAST = {"day": (0.9, 4.0), "dusk": (0.55, 10.0), "night": (0.3, 16.0)}


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        pixels: uint8 (SIZE, SIZE), 0 to 255.
        boxes: float32 (n, 4): left, top, width, height in pixels, tight around the ink.
        digits: int64 (n,).
        light: One of LIGHTS.
    """

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    boxes: np.ndarray[Any, np.dtype[np.float32]]
    digits: np.ndarray[Any, np.dtype[np.int64]]
    light: str


def compose(
    images: np.ndarray[Any, np.dtype[Any]], labels: np.ndarray[Any, np.dtype[Any]], count: int, seed: int
) -> list[Scene]:
    """Return scenes made of digits.

    Args:
        images: (n, 8, 8), 0 to 16.
        labels: Their digits, (n,).
        count: Number of scenes.
        seed: The same seed gives the same scenes.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    return [_scene(images, labels, rng) for _ in range(count)]


def _scene(images: Any, labels: Any, rng: np.random.Generator) -> Scene:
    import numpy as np

    light = str(rng.choice(LIGHTS))
    contrast, noise = _CONTRAST[light]
    canvas, taken = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), bool)
    boxes, digits = [], []
    for _ in range(int(rng.integers(1, MOST_DIGITS + 1))):
        index = int(rng.integers(len(images)))
        size = int(rng.choice(DIGIT_PIXELS))
        ink = _enlarged(images[index], size)
        top, left = (int(value) for value in rng.integers(0, SIZE - size + 1, 2))
        place = (slice(top, top + size), slice(left, left + size))
        if taken[place].any():
            continue
        taken[place] = True
        canvas[place] = ink
        rows, columns = np.flatnonzero((ink > 40).any(1)), np.flatnonzero((ink > 40).any(0))
        boxes.append((left + columns[0], top + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1))
        digits.append(int(labels[index]))
    background = rng.uniform(10, 60) * contrast
    pixels = np.clip(background + canvas * contrast + rng.normal(0, noise, canvas.shape), 0, 255).astype(np.uint8)
    return Scene(pixels, np.asarray(boxes, np.float32), np.asarray(digits, np.int64), light)


def _enlarged(image: Any, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a digit of 8×8 pixels of 0 to 16, bilinear, as (size, size) of 0 to 255."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray((image * 15.9).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR), np.float32)


def write_scenes(scenes: list[Scene], path: Path) -> None:
    """Write a zip of PNG images and `annotations.jsonl`, as CreateDataset takes it."""
    files, lines = {}, []
    for number, scene in enumerate(scenes):
        name = f"images/{number:05d}.png"
        files[name] = png(scene.pixels)
        boxes = [
            dict(zip(("label", "x", "y", "width", "height"), (str(digit), *box), strict=True))
            for digit, box in zip(scene.digits.tolist(), scene.boxes.tolist(), strict=True)
        ]
        lines.append(json.dumps({"image": name, "boxes": boxes, "attributes": {"light": scene.light}}) + "\n")
    write_archive(path, {**files, "annotations.jsonl": "".join(lines).encode()})
