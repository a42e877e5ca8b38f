"""Detectors of MMDetection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.detectors.format import DetectorFormat, Reader
from engines.formats.files import ModelFiles

if TYPE_CHECKING:
    from engines.formats.mmdetection.config_files import DetectorFiles


class MMDetection(DetectorFormat):
    """A configuration, which is a Python file, and a checkpoint of mmengine."""

    name = "MMDETECTION"
    words = "a detector of MMDetection"
    advice = "Upload the configuration (config.py) and the checkpoint (.pth), in one folder."
    template_note = "A detector's raw heads; classes and how boxes come from them are those of its configuration."
    packages = ("mmengine", "mmcv-lite", "mmcv", "mmdet", "torchvision")
    modules = ("mmengine", "mmcv", "mmdet")

    def matches(self, files: ModelFiles) -> bool:
        from engines.formats.mmdetection.config_files import is_config

        return any(map(is_config, files.ending(".py")))

    def find(self, root: Path, named: str) -> DetectorFiles:
        from engines.formats.mmdetection.config_files import find

        return find(root, named)

    def reader(self) -> Reader:
        from engines.formats.mmdetection import reader

        return reader
