"""Detectors of Detectron2."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.detectors.uploads import checkpoints
from engines.formats.files import ModelFiles
from engines.formats.protocol import Format, ReadJob
from engines.spec.source_files import ROOT

if TYPE_CHECKING:
    from engines.formats.detectron2.config_files import DetectorFiles
    from engines.formats.source import Source
    from engines.spec.open_axes import Declared
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component, Template


class Detectron2(Format):
    """A configuration, which is a YAML file, and a checkpoint."""

    name = "DETECTRON2"
    words = "a detector of Detectron2"
    advice = "Upload the configuration (config.yaml) and the checkpoint (model_final.pth), in one folder."
    template_note = "A detector's raw heads; how boxes come from them is what its configuration says."
    method = "heads"
    forms = frozenset({"graph", "network"})
    packages = ("detectron2", "fvcore", "torchvision")

    def matches(self, files: ModelFiles) -> bool:
        from engines.formats.detectron2.config_files import is_config

        return any(map(is_config, files.ending(".yaml", ".yml")))

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.detectors.description import described
        from engines.formats.detectron2.config_files import find

        found = find(folder, file)
        return described(found.config, found.checkpoint, folder)

    def model_files(self, paths: Iterable[str]) -> list[str]:
        return checkpoints(paths)

    def files_beside(self, path: Path) -> list[str]:
        return [
            entry.relative_to(path.parent).as_posix() for entry in sorted(path.parent.rglob("*")) if entry.is_file()
        ]

    def stated(self, request: ConversionRequest, workdir: Path) -> Template:
        from engines.formats.detectron2.reader import stated

        return stated(self._files(request, request.template.components[0], workdir), request.template)

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        from engines.formats.detectron2.reader import declared

        return declared(self._files(request, component, workdir), component)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.detectron2.reader import read

        return read(self._files(job.request, job.component, job.workdir), job.component, job.arguments, job.onnx_path)

    def _files(self, request: ConversionRequest, component: Component, workdir: Path) -> DetectorFiles:
        from engines.formats.detectron2.config_files import find

        path = self.located(request, component, workdir)
        return find(workdir / ROOT, path.relative_to((workdir / ROOT).resolve()).as_posix())
