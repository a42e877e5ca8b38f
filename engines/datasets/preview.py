"""Draws an item's annotations on its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.datasets.items import Item
from engines.imaging import DrawnBox, Image, decode, draw
from engines.sandbox import Reporter

_MAX_CAPTION = 12


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Write `workdir/out/annotated.png`. This is the entry for a sandboxed child.

    Args:
        request: `image` (path in `workdir`) and `item` (a `DatasetItem`).
        workdir: Directory with the image.
        report: Not used, because this is quick.

    Raises:
        EngineFailure: INVALID_DATA if the image cannot be read.
    """
    item = Item.from_dict(request["item"])
    out = workdir / "out" / "annotated.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(annotated(decode(workdir / str(request["image"])), item))
    return {"path": "out/annotated.png"}


def annotated(image: Image, item: Item) -> bytes:
    """Return a PNG of an image with an item's boxes, and its classes and attributes below; crowds are dashed."""
    boxes = [DrawnBox(box.label, box.x, box.y, box.width, box.height, dashed=box.crowd) for box in item.boxes]
    lines = [f"{key}: {value}" for key, value in (*item.classifications.items(), *item.attributes.items())]
    return draw(image, boxes, lines[:_MAX_CAPTION])
