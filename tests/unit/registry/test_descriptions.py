"""A description leaves no folder behind, nor does one whose process was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX
from lathe.type.v1.digest_pb2 import File

from services.registry.descriptions import Describer


class Away:
    """A store that does not answer."""

    async def fetch(self, _digest: Any, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        raise ConnectionError


async def test_folders_go(tmp_path: Path) -> None:
    (tmp_path / "work-1-killed").mkdir()
    describer = Describer(Away(), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ExceptionGroup):
        await describer.describe(MODEL_FORMAT_ONNX, [File(path="a.onnx")], lambda part: None)
    assert list(tmp_path.iterdir()) == []
