"""The demo's digits as datasets: an image folder per class for calibration, annotated JSONL for evaluation."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Images = np.ndarray[Any, np.dtype[Any]]

_TIME = (1980, 1, 1, 0, 0, 0)  # the same bytes every time, so that uploads of an earlier demo are reused


def write_image_folder(images: Images, labels: Images, path: Path) -> None:
    """Write images (n, 1, 8, 8) of 0 to 255 as `{digit}/{number}.png` into a zip file."""
    pairs = zip(images, labels, strict=True)
    write_archive(path, {f"{digit}/{number:05d}.png": png(image[0]) for number, (image, digit) in enumerate(pairs)})


def write_annotated(images: Images, labels: Images, path: Path) -> None:
    """Write images with `annotations.jsonl`: the digit, and whether it was written with `thin` or `bold` strokes."""
    import numpy as np

    ink = images.mean(axis=(1, 2, 3))
    middle = float(np.median(ink))
    files, lines = {}, []
    for number, (image, digit) in enumerate(zip(images, labels, strict=True)):
        name = f"images/{number:05d}.png"
        files[name] = png(image[0])
        strokes = "bold" if ink[number] > middle else "thin"
        entry = {"image": name, "classifications": {"digit": str(digit)}, "attributes": {"strokes": strokes}}
        lines.append(json.dumps(entry) + "\n")
    write_archive(path, {**files, "annotations.jsonl": "".join(lines).encode()})


def png(pixels: Images) -> bytes:
    """Return grey pixels (height, width) of 0 to 255 as a PNG file."""
    import numpy as np
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files by path into a zip file; the same files give the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), content)
