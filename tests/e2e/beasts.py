"""A classifier whose answers can be told by looking, and pictures of four kinds, in every form that an import takes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.e2e.desk import Desk

CLASSES = ("cat", "dog", "hen", "cow")
COLORS = ((230, 40, 40), (40, 230, 40), (40, 40, 230), (20, 20, 20))
"""Red, green, blue and black, by class, as RGB."""
COUNT = 24
WRONG = (1, 7)
"""Pictures that bear the label of another kind in `scenes`; both are by night."""
WIDTH, HEIGHT = 12, 8


@dataclass(frozen=True)
class Beasts:
    """The classifier and its data, at a running suite.

    Attributes:
        desk: The suite.
        source: The version that was pushed.
        package: The version that a conversion made of it, for ONNX Runtime.
        conversion: The task of that conversion.
        scenes: A dataset of COUNT pictures with the attribute `scene`, WRONG among them.
    """

    desk: Desk
    source: str
    package: str
    conversion: str
    scenes: str


def save_classifier(path: Path) -> Path:
    """Save weights with which the network of `tiny` tells the colors apart: a channel each, and a bias for black."""
    import torch

    kernel, matrix = torch.zeros(4, 3, 3, 3), torch.eye(4)
    for channel in range(3):
        kernel[channel, channel, 1, 1] = 1.0
    bias = torch.tensor([0.0, 0.0, 0.0, 0.3])
    batch = {"weight": torch.ones(4), "bias": torch.zeros(4), "running_mean": torch.zeros(4)}
    state = {"0.weight": kernel, "0.bias": torch.zeros(4), "5.weight": matrix, "5.bias": bias}
    state |= {f"1.{name}": value for name, value in (batch | {"running_var": torch.ones(4)}).items()}
    torch.save({"state_dict": state | {"1.num_batches_tracked": torch.tensor(0)}}, path)
    return path


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture of class `number % 4`, as RGB with some noise: another number is another picture."""
    dice = np.random.default_rng(number)
    noise = dice.integers(-15, 16, (HEIGHT, WIDTH, 3))
    return (np.array(COLORS[number % 4]) + noise).clip(0, 255).astype(np.uint8)


def png(number: int) -> bytes:
    """Return a picture as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, data in files.items():
            packed.writestr(path, data)
    return buffer.getvalue()


def save_folder(folder: Path, first: int = 1000) -> Path:
    """Write pictures, one folder per class."""
    for number in range(COUNT):
        path = folder / CLASSES[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(first + number))
    return folder


def scenes() -> bytes:
    """Return an archive of JSONL: every odd picture is by night."""
    return archive({"annotations.jsonl": "\n".join(_lines()).encode()} | _images(0))


def coco() -> bytes:
    """Return an archive of COCO: a box per picture."""
    images = [{"id": n, "file_name": f"images/{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(COUNT)]
    boxes = [{"id": n, "image_id": n, "category_id": n % 4, "bbox": [1, 2, 5, 4], "area": 20} for n in range(COUNT)]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": boxes, "categories": categories}
    return archive({"instances.json": json.dumps(document).encode()} | _images(2000))


def tensors(first: int = 3000) -> dict[str, np.ndarray[Any, Any]]:
    """Return arrays as the model takes them, BGR, and their classes."""
    images = [picture(first + number)[:, :8, ::-1].transpose(2, 0, 1) for number in range(COUNT)]
    labels = [CLASSES[number % 4] for number in range(COUNT)]
    return {"image": np.stack(images).astype(np.float32), "label.animal": np.array(labels)}


def save_tensors(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Path:
    """Write an NPZ."""
    path.write_bytes(npz(arrays))
    return path


def npz(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Return an NPZ."""
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(buffer, **named)
    return buffer.getvalue()


def _images(first: int) -> dict[str, bytes]:
    return {f"images/{number}.png": png(first + number) for number in range(COUNT)}


def _lines() -> Iterator[str]:
    for number in range(COUNT):
        yield json.dumps(
            {
                "image": f"images/{number}.png",
                "classifications": {"animal": CLASSES[(number + (number in WRONG)) % 4]},
                "attributes": {"scene": "night" if number % 2 else "day"},
            }
        )
