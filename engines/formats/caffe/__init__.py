"""Nets of Caffe: a prototxt and its caffemodel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure
from engines.formats.files import ModelFiles
from engines.formats.protocol import Format, ReadJob, SourceForm

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component
    from engines.tensors.signature import TensorSpec

_LAYER = re.compile(rb"^\s*layers?\s*:?\s*\{", re.MULTILINE)
_HEAD = 65536


class Caffe(Format):
    """The text of a net and the weights of its layers."""

    name = "CAFFE"
    words = "a Caffe model"
    advice = "Upload the .prototxt that Caffe runs (deploy.prototxt) and the .caffemodel beside it."
    template_note = "Any net, with the inputs that it has and the blobs that no layer reads."
    forms: frozenset[SourceForm] = frozenset({"graph", "caffe"})
    endings = (".prototxt", ".caffemodel")
    fixed_inputs = True
    open_axes = True

    def matches(self, files: ModelFiles) -> bool:
        return any(_is_net(path) for path in files.ending(".prototxt"))

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.caffe.description import describe_caffe

        return [describe_caffe(folder, file)]

    def model_files(self, paths: Iterable[str]) -> list[str]:
        """Return the .prototxt files that can be the net: other files hold its weights, or how it was trained."""
        from engines.formats.caffe.pairs import nets

        files = super().model_files(paths)
        return nets(files) or files

    def files_beside(self, path: Path) -> list[str]:
        """Return the file of the weights; none if it cannot be told, which the reader says."""
        from engines.formats.caffe.pairs import weights_beside

        try:
            return [weights_beside(path).name]
        except EngineFailure:
            return []

    def graph_inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
        from engines.formats.caffe.reader import stated_inputs

        return stated_inputs(self.located(request, component, workdir))

    def read(self, job: ReadJob) -> Source:
        from engines.formats.caffe.reader import read_caffe

        return read_caffe(self.located(job.request, job.component, job.workdir), job)


def _is_net(path: Path) -> bool:
    with path.open("rb") as file:
        return _LAYER.search(file.read(_HEAD)) is not None
