"""The items of a dataset with their annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

LABEL = "label"
"""The key of the classes of boxes, in every place that takes keys."""


@dataclass(frozen=True, slots=True)
class Box:
    """An object in an image, in pixels from the top left corner.

    Attributes:
        label: Its class.
        x: Left edge.
        y: Top edge.
        width: Width.
        height: Height.
        crowd: True for a crowd, which is not evaluated as one object.
        area: Pixels of the object itself, from a segmentation; None if only its box is known.
        origin: Its source in an import, for messages, for example `annotation 17`. Neither compared nor stored.
    """

    label: str
    x: float
    y: float
    width: float
    height: float
    crowd: bool = False
    area: float | None = None
    origin: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the box as JSON-ready values, with the field names of `lathe.registry.v1.Box`, and `area`."""
        values: dict[str, Any] = {"label": self.label, "x": self.x, "y": self.y}
        values |= {"width": self.width, "height": self.height}
        if self.crowd:
            values["crowd"] = True
        if self.area is not None:
            values["area"] = self.area
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the box that `to_dict` wrote."""
        area = values.get("area")
        return cls(
            label=values.get("label", ""),
            x=float(values.get("x", 0.0)),
            y=float(values.get("y", 0.0)),
            width=float(values.get("width", 0.0)),
            height=float(values.get("height", 0.0)),
            crowd=bool(values.get("crowd", False)),
            area=None if area is None else float(area),
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One image, or one row of tensors, with its annotations.

    Attributes:
        path: Path in the import.
        sha256: Digest of the image, or of the NPZ or NPY file with the tensors.
        size_bytes: Size of that file.
        width: Width in pixels, as the image is displayed; 0 for tensors.
        height: Height in pixels; 0 for tensors.
        classifications: Class by key, or by task after a class mapping.
        boxes: Objects in the image.
        attributes: Attributes by name; evaluations can be sliced by them.
        row: Row in the tensor file.
    """

    path: str
    sha256: str
    size_bytes: int
    width: int = 0
    height: int = 0
    classifications: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    row: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the item as JSON-ready values, with the field names of `lathe.registry.v1.DatasetItem`."""
        return {
            "path": self.path,
            "content": {"sha256": self.sha256, "size_bytes": self.size_bytes},
            "width": self.width,
            "height": self.height,
            "classifications": dict(self.classifications),
            "boxes": [box.to_dict() for box in self.boxes],
            "attributes": dict(self.attributes),
            "row": self.row,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the item from `to_dict`'s values, or from the JSON form of a `DatasetItem`."""
        content = values.get("content", {})
        return cls(
            path=values.get("path", ""),
            sha256=content.get("sha256", ""),
            size_bytes=int(content.get("size_bytes", content.get("sizeBytes", 0))),
            width=int(values.get("width", 0)),
            height=int(values.get("height", 0)),
            classifications=dict(values.get("classifications", {})),
            boxes=tuple(Box.from_dict(box) for box in values.get("boxes", ())),
            attributes=dict(values.get("attributes", {})),
            row=int(values.get("row", 0)),
        )
