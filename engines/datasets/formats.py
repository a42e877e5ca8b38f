"""Detects the format of the files of an import, and opens its reader."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from engines.datasets.archives import Budget
from engines.datasets.coco import Coco
from engines.datasets.files import Files, is_npz
from engines.datasets.found import Notes, Reader, invalid, listed
from engines.datasets.image_folder import ImageFolder
from engines.datasets.jsonl import Jsonl
from engines.datasets.tensor_reader import tensor_reader
from engines.failures import count

IMAGE_FOLDER, COCO, JSONL, TENSOR_FILES = "IMAGE_FOLDER", "COCO", "JSONL", "TENSOR_FILES"
FORMATS = (IMAGE_FOLDER, COCO, JSONL, TENSOR_FILES)

_IMAGES = frozenset(
    [".bmp", ".gif", ".jp2", ".jpeg", ".jpe", ".jfif", ".jpg", ".png", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp"]
)
_LINES = frozenset({".jsonl", ".ndjson"})
_TENSORS = frozenset({".npz", ".npy"})
# Never images, so their contents are not examined.
_OTHER = frozenset(
    [".txt", ".md", ".csv", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".py", ".zip", ".gz", ".tar"]
)
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")


@dataclass
class _Sorted:
    """Paths by kind."""

    images: list[str] = field(default_factory=list)
    coco: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def of(self, format_: str) -> list[str]:
        return {IMAGE_FOLDER: self.images, COCO: self.coco, JSONL: self.lines, TENSOR_FILES: self.tensors}[format_]


@dataclass(frozen=True)
class Opened:
    """A dataset that is open for import.

    Attributes:
        format: One of `FORMATS`.
        reader: Yields the items.
        contents: The file of each item's path.
        unread: Paths that the reader does not use, apart from images, which annotations may name.
        images: All images, to count those without annotation.
        budget: Limits the arrays that are read.
        renamed: Paths that differ from the names in their archives.
    """

    format: str
    reader: Reader
    contents: Mapping[str, Path]
    unread: list[str]
    images: list[str]
    budget: Budget
    renamed: list[str]

    def warn(self, notes: Notes, named: int) -> None:
        """Note which files are renamed or not used; `named` is the number of items that the reader yields."""
        if self.renamed:
            renamed = count(len(self.renamed), "file has a name", "files have names")
            notes.warn(
                f"{renamed} with control characters or bytes that are not UTF-8, which are escaped as %XX: "
                f"{listed(self.renamed)}."
            )
        if self.unread:
            notes.warn(f"{count(len(self.unread), 'file is', 'files are')} not used: {listed(self.unread)}.")
        if self.format in {COCO, JSONL} and len(self.images) > named:
            notes.warn(
                f"{count(len(self.images) - named, 'image is', 'images are')} not in the annotations and left out."
            )


def open_dataset(files: Files, format_: str, scratch: Path, *, classes: bool) -> Opened:
    """Return the reader for files.

    Args:
        files: The uploaded files.
        format_: One of `FORMATS`, or empty to detect it.
        scratch: Folder for temporary files.
        classes: True if a folder of images is a class even if it is the only one.

    Raises:
        EngineFailure: INVALID_DATA if the files have no known format, several, or not the requested one, or if the
            reader rejects them.
    """
    found = _sort(files)
    chosen = format_ or _detect(found)
    paths = found.of(chosen)
    if not paths:
        invalid(f"The files do not have the format {chosen}. The upload contains {_seen(found)}.", fix=_FIXES[chosen])
    contents: Mapping[str, Path] = files
    reader: Reader
    if chosen == IMAGE_FOLDER:
        reader = ImageFolder(paths, classes=classes or bool(format_))
    elif chosen == COCO:
        reader = Coco(files, paths)
    elif chosen == JSONL:
        reader = Jsonl(files, paths)
    else:
        reader, contents = tensor_reader(files, paths, scratch)
    used = {id(paths), id(found.images), *([id(found.tensors)] if chosen == JSONL else [])}
    kinds = (found.images, found.coco, found.lines, found.tensors, found.other)
    unread = sorted(path for kind in kinds if id(kind) not in used for path in kind)
    if chosen == TENSOR_FILES:
        unread = sorted([*unread, *found.images])
    return Opened(chosen, reader, contents, unread, found.images, files.budget, files.renamed)


_FIXES = {
    IMAGE_FOLDER: "Upload images, one folder per class.",
    COCO: "Upload a JSON file with 'images', 'annotations' and 'categories', and the images.",
    JSONL: "Upload a file whose name ends in .jsonl, with one JSON object per line, and the images.",
    TENSOR_FILES: "Upload NPZ or NPY files.",
}


def _detect(found: _Sorted) -> str:
    annotated = [format_ for format_ in (JSONL, COCO) if found.of(format_)]
    candidates = annotated or [format_ for format_ in (IMAGE_FOLDER, TENSOR_FILES) if found.of(format_)]
    if len(candidates) > 1:
        invalid(
            f"The format could be {' or '.join(candidates)}. The upload contains {_seen(found)}.",
            fix="State the format, or leave the other files out.",
        )
    if not candidates:
        invalid(
            f"The files are not a dataset. The upload contains {_seen(found)}.",
            fix="Upload images (one folder per class, or with COCO or JSONL annotations), or NPZ or NPY files.",
        )
    return candidates[0]


def _sort(files: Files) -> _Sorted:
    found = _Sorted()
    for path in files:
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in _IMAGES:
            found.images.append(path)
        elif suffix in _LINES:
            found.lines.append(path)
        elif suffix in _TENSORS:
            found.tensors.append(path)
        elif suffix == ".json":
            (found.coco if _is_coco(files[path]) else found.other).append(path)
        elif suffix in _OTHER:
            found.other.append(path)
        else:
            _by_content(files[path], found).append(path)
    return found


def _by_content(path: Path, found: _Sorted) -> list[str]:
    """Return the list for a file whose name does not tell its kind."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"\x93NUMPY") or (head.startswith(b"PK\x03\x04") and is_npz(path)):
        return found.tensors
    if head.startswith(_IMAGE_MAGIC) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return found.images
    return found.other


def _is_coco(path: Path) -> bool:
    """Return whether a JSON file has the arrays of COCO, without parsing it."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        begins = text[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        return begins and text.find(b'"images"') >= 0 and text.find(b'"annotations"') >= 0


def _seen(found: _Sorted) -> str:
    kinds = (
        (found.images, "image"),
        (found.coco, "COCO file"),
        (found.lines, "JSONL file"),
        (found.tensors, "NPZ or NPY file"),
        (found.other, "other file"),
    )
    return ", ".join(f"{count(len(paths), noun)} ({listed(paths, 3)})" for paths, noun in kinds if paths)
