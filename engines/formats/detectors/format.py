"""What the formats of detectors share: a configuration and a checkpoint in one upload, read as raw heads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engines.formats.detectors.uploads import checkpoints
from engines.formats.protocol import Format, ReadJob
from engines.spec.source_files import ROOT

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.open_axes import Declared
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component, Template
    from engines.tensors import Array


class Reader(Protocol):
    """The module `reader` of a room, which imports the toolbox. `files` is what the room's `find` returns."""

    def stated(self, files: Any, template: Template) -> Template:
        """Return the template with what the detector says of its outputs."""

    def declared(self, files: Any, component: Component) -> Declared:
        """Return the component with the image that the configuration says."""

    def read(self, files: Any, component: Component, arguments: Sequence[Array], onnx_path: Path) -> Source:
        """Return the raw heads as a source."""


class DetectorFormat(Format):
    """A configuration and a checkpoint."""

    method = "heads"
    forms = frozenset({"graph", "network"})

    @abstractmethod
    def find(self, root: Path, named: str) -> Any:
        """Return the files of the detector in an upload, looked through: its `config` and its `checkpoint` at least."""

    @abstractmethod
    def reader(self) -> Reader:
        """Return the room's module that reads them."""

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.detectors.description import described

        found = self.find(folder, file)
        return described(found.config, found.checkpoint, folder)

    def model_files(self, paths: Iterable[str]) -> list[str]:
        return checkpoints(paths)

    def files_beside(self, path: Path) -> list[str]:
        return [
            entry.relative_to(path.parent).as_posix() for entry in sorted(path.parent.rglob("*")) if entry.is_file()
        ]

    def stated(self, request: ConversionRequest, workdir: Path) -> Template:
        files = self._files(request, request.template.components[0], workdir)
        return self.reader().stated(files, request.template)

    def inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Declared:
        return self.reader().declared(self._files(request, component, workdir), component)

    def read(self, job: ReadJob) -> Source:
        files = self._files(job.request, job.component, job.workdir)
        return self.reader().read(files, job.component, job.arguments, job.onnx_path)

    def _files(self, request: ConversionRequest, component: Component, workdir: Path) -> Any:
        path = self.located(request, component, workdir)
        return self.find(workdir / ROOT, path.relative_to((workdir / ROOT).resolve()).as_posix())
