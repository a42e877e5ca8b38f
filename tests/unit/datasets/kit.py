"""Makes small datasets on the disk."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.datasets.dataset_import import run
from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Progress, Reporter


def png(width: int = 32, height: int = 24, seed: int = 0) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar(*members: tuple[str, bytes | None, dict[str, Any]], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def lines(*values: object) -> str:
    return "\n".join(json.dumps(value) for value in values)


def coco(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], names: dict[int, str] | None = None
) -> dict[str, Any]:
    """What a COCO file holds: cats (1) and dogs (7) if no other names are given."""
    categories = [{"id": key, "name": name} for key, name in (names or {1: "cat", 7: "dog"}).items()]
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}


def coco_image(number: Any = 1, name: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, **more}


def coco_box(number: Any = 1, of: Any = 1, category: Any = 1, bbox: Any = (1, 2, 3, 4), **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "category_id": category, "bbox": list(bbox), **more}


def imported(workdir: Path, files: Mapping[str, bytes | str], **request: Any) -> dict[str, Any]:
    """Import files into `workdir/out`."""
    write(workdir / "files", files)
    return run({"folder": "files", **request}, workdir, silent())


def silent() -> Reporter:
    def ignore(progress: Progress) -> None:
        assert 0 <= progress.fraction <= 1

    return Reporter(ignore)


@contextmanager
def refused(*words: str, reason: FailureReason = FailureReason.INVALID_DATA) -> Iterator[None]:
    """Expect a failure whose message and evidence hold all of these words."""
    with pytest.raises(EngineFailure) as caught:
        yield
    said = f"{caught.value.message} {caught.value.evidence} {caught.value.suggested_fix}"
    assert caught.value.reason is reason, said
    for word in words:
        assert word in said
