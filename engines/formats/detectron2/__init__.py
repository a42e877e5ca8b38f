"""Detectors of Detectron2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.formats.detectors.format import DetectorFormat, Reader
from engines.formats.files import ModelFiles

if TYPE_CHECKING:
    from engines.formats.detectron2.config_files import DetectorFiles


class Detectron2(DetectorFormat):
    """A configuration, which is a YAML file, and a checkpoint."""

    name = "DETECTRON2"
    words = "a detector of Detectron2"
    advice = "Upload the configuration (config.yaml) and the checkpoint (model_final.pth), in one folder."
    template_note = "A detector's raw heads; how boxes come from them is what its configuration says."
    packages = ("detectron2", "fvcore", "torchvision")
    modules = ("detectron2",)

    def matches(self, files: ModelFiles) -> bool:
        from engines.formats.detectron2.config_files import is_config

        return any(map(is_config, files.ending(".yaml", ".yml")))

    def find(self, root: Path, named: str) -> DetectorFiles:
        from engines.formats.detectron2.config_files import find

        return find(root, named)

    def reader(self) -> Reader:
        from engines.formats.detectron2 import reader

        return reader
